"""Why a model did not load: from the engine's log to the line of the fragment to change. Pure."""

from __future__ import annotations

import math
import re

from stack import log_errors
from stack.diagnosis_rule import Rule
from stack.diagnosis_rules import HOST_MEMORY, RULES
from stack.errors import Problem
from stack.fragment import Fragment
from stack.log_errors import Chain

# What only says that another error is the cause.
_WRAPPERS = re.compile(
    r"See root cause above|See stack trace|failed to start\.$|died unexpectedly|^Error parsing config|"
    r"Executor failed|output_handler failed|^(SystemExit|KeyboardInterrupt)"
)
_SILENT = re.compile(r"(Engine core|WorkerProc) initialization failed")
_LONGEST = 300
_KILLED = (137, -9)
_LOG = "see ./runMe.sh logs engine"


def diagnose(
    log: str, fragment: Fragment, *, oom_killed: bool = False, exit_code: int | None = None, has_token: bool = False
) -> Problem:
    """Say why an engine ended.

    Args:
        log: what the engine printed; only what follows the last start counts.
        fragment: the model it was to serve.
        oom_killed: the kernel killed it, or a process of it, for want of memory.
        exit_code: its exit status, negative for a signal or 128 more than it; None if not known.
        has_token: it had a Hugging Face token.

    Returns:
        What is wrong, where it is to be put right and how, with vLLM's own sentence quoted.
    """
    if oom_killed:
        return _killed(fragment, "the kernel killed the engine: the machine, or the container's share, is out of memory")
    # It may already have been started anew, and have had no time to fail again.
    found = explain(log, fragment, has_token) or explain(log_errors.before_last_start(log), fragment, has_token)
    if found is None and exit_code in _KILLED:
        return _killed(fragment, "the engine was killed, most likely because the machine is out of memory")
    status = "" if exit_code is None else f" with status {exit_code}"
    return found or Problem("engine", f"ended{status} and says no error", _LOG)


def explain(log: str, fragment: Fragment, has_token: bool = False) -> Problem | None:
    """What the log alone tells; None if there is no error in it."""
    chains = log_errors.chains(log)
    for rule in RULES:
        for chain in reversed(chains) if rule.token in (None, has_token) else ():
            for error in reversed(chain):
                match = re.search(rule.pattern, " ".join(error.split()))
                if match:
                    return _problem(rule, match, chain, fragment)
    return _unknown(chains, fragment)


def _problem(rule: Rule, match: re.Match[str], chain: Chain, fragment: Fragment) -> Problem:
    groups = match.groupdict("")
    quote = groups.get("quote") or match[0]
    names = {**groups, "model": fragment.argv()[2], "reason": _sentence(chain[0])}
    if groups.get("total"):
        names["share"] = str(math.floor(100 * float(groups["free"]) / float(groups["total"])) / 100)
    what = f'{rule.why.format(**names)}: "{_cut(quote)}"'
    return Problem(_place(rule.at.format(**names).split(), fragment), what, rule.cure.format(**names))


def _killed(fragment: Fragment, what: str) -> Problem:
    return Problem(_place(["env.VLLM_CPU_KVCACHE_SPACE", "model"], fragment), what, HOST_MEMORY)


def _unknown(chains: list[Chain], fragment: Fragment) -> Problem | None:
    """The last error that is not a consequence of another one, as the engine put it."""
    silent = None
    for chain in reversed(chains):
        for error in reversed(chain):
            if not _WRAPPERS.search(error):
                return Problem("engine", f'vLLM failed: "{_cut(error)}"', _LOG)
            if _SILENT.search(error):
                # A cause is announced and none is there: whoever should have told it was killed.
                what = "a process of the engine ended without a word, most likely because the machine is out of memory"
                silent = silent or _killed(fragment, f'{what}: "{_cut(_sentence(error))}"')
    return silent


def _sentence(error: str) -> str:
    """The first line of an exception without its type."""
    return re.sub(r"^[\w.]+: ", "", error.split("\n")[0])


def _cut(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _LONGEST else line[:_LONGEST].rsplit(" ", 1)[0] + " …"


def _place(names: list[str], fragment: Fragment) -> str:
    """`file:line` of the first of `names` that the fragment has; a name that cannot stand in it is a place itself."""
    document = fragment.document
    for name in names:
        if name.startswith("-") or name == "model":
            word = fragment.argv()[2] if name == "model" else name
            line = _line(fragment.command, word)
            if line is not None:
                return f"{document.name}:{document.text_lines[('command',)] + line}"
        elif name.startswith("env.") or name in ("revision", "image"):
            path = tuple(name.split(".", 1))
            if path in document.lines:
                return document.place(path)
        else:
            return name
    return document.place(("command",))


def _line(command: str, word: str) -> int | None:
    """On which line of a command a word stands, counted from 0; of a flag `--a=b` and `--a_b` count too."""
    spelling = "--" + re.sub(r"[-_]", "[-_]", word[2:]) if word.startswith("--") else re.escape(word)
    pattern = re.compile(rf"(?:^|.*\s)(?<!#)['\"]?{spelling}(?=[=\s'\"\\]|$)")
    for number, line in enumerate(command.split("\n")):
        if pattern.match(re.sub(r"(^|\s)#.*", "", line)):
            return number
    return None

"""The text of `command:` to an argument list, and the arguments the stack adds. Pure; no shell is ever involved."""

from __future__ import annotations

import io
import json
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from stack.errors import ConfigError, Problem

# Flags that take several values.
_LISTS = frozenset({"--served-model-name", "--api-key"})
_OPERATORS = frozenset(";|&<>()")
# A backslash at a line's end. Blanks behind it are forgiven: they cannot be seen, and a shell would break on them.
_CONTINUATION = re.compile(r"\\[ \t]*(\r?\n|\Z)")
# JSON whose quotes splitting into words would take away.
_JSON_START = re.compile(r"[{\[][ \t\r\n{\[]*[\"']")
_SHELL_CURE = "no shell runs this command; put the text in single quotes to mean it literally"


@dataclass(frozen=True)
class Word:
    """An argument and where it begins.

    Attributes:
        text: without quotes.
        line: of the file, counted from 1.
    """

    text: str
    line: int


def split(text: str, name: str, first_line: int) -> list[str]:
    """The arguments of a `vllm serve` command; see words."""
    return [word.text for word in words(text, name, first_line)]


def words(text: str, name: str, first_line: int) -> list[Word]:
    """Split a `vllm serve` command into its arguments, each with its line.

    Comments, line continuations and quotes mean what they mean in a shell, except that a line break always ends an
    argument and never the command, so that a comment may stand between two continued lines.

    Args:
        text: the command as written in the fragment.
        name: the file's name, for messages.
        first_line: the line of the file on which `text` begins.

    Raises:
        ConfigError: all of: a shell operator or expansion, an unclosed quote, unquoted JSON, no `vllm serve MODEL`.
    """
    cleaned, lines, problems = _clean(text, name, first_line)
    if problems:
        raise ConfigError(*problems)
    place = f"{name}:{first_line}"
    found = _tokens(cleaned, lines)
    argv = [word.text for word in found]
    if not argv:
        raise ConfigError(Problem(place, "command: is empty", "write the `vllm serve` command for the model"))
    if argv[:2] != ["vllm", "serve"]:
        shown = " ".join(argv[:2])
        cure = "begin with `vllm serve MODEL`"
        if "=" in argv[0]:
            cure = "environment variables belong under env:; " + cure
        raise ConfigError(Problem(place, f"command: begins with {shown!r}, not `vllm serve`", cure))
    if len(argv) < 3 or argv[2].startswith("-"):
        raise ConfigError(Problem(place, "command: names no model", "write it right after `vllm serve`"))
    generation_overrides(argv, place)
    for word in argv[3:]:
        if word.replace("_", "-").startswith("--override-generation-config."):
            cure = "write it as --override-generation-config '{...}', or under litellm:"
            raise ConfigError(Problem(place, f"command: {word}: the dotted form is not read by the stack", cure))
    return found


def _tokens(text: str, lines: list[int]) -> list[Word]:
    """What shlex.split finds, with the line on which each begins."""
    stream = io.StringIO(text)
    lexer = shlex.shlex(stream, posix=True)
    lexer.whitespace_split, lexer.commenters = True, ""
    found: list[Word] = []
    while True:
        start = stream.tell()
        token = lexer.get_token()
        if token is None:
            return found
        while text[start].isspace():
            start += 1
        found.append(Word(token, lines[start]))


def generation_overrides(argv: list[str], place: str) -> dict[str, Any]:
    """What a command's own --override-generation-config says.

    Raises:
        ConfigError: it is not a JSON object.
    """
    own = option(argv, "--override-generation-config")
    if not own:
        return {}
    try:
        parsed = json.loads(own[-1])
    except ValueError as error:
        parsed = error
    if not isinstance(parsed, dict):
        what = f"command: --override-generation-config is not a JSON object: {own[-1][:60]!r}"
        raise ConfigError(Problem(place, what, "for example '{\"top_k\": 20}', in single quotes"))
    return parsed


def _clean(text: str, name: str, first_line: int) -> tuple[str, list[int], list[Problem]]:
    """The text without comments and continuations, the line of each character, and what a shell would interpret."""
    out: list[str] = []
    lines: list[int] = []
    problems: list[Problem] = []
    quote, quote_line, line, index = "", first_line, first_line, 0
    word_start = True

    def complain(what: str, cure: str = _SHELL_CURE) -> None:
        problems.append(Problem(f"{name}:{line}", f"command: {what}", cure))

    while index < len(text):
        char = text[index]
        following = text[index + 1 : index + 2]
        if quote == "'":
            quote = "" if char == "'" else quote
        elif char == "\\":
            continuation = _CONTINUATION.match(text, index)
            if continuation:
                index = continuation.end()
                out.append("" if quote else " ")
                lines += [] if quote else [line]
                word_start = not quote
                line += 1
                continue
            out.append(char + following)
            lines += [line] * len(char + following)
            word_start = False
            index += 2
            continue
        elif char in "$`":
            complain(f"has {char!r}, which only a shell would expand")
        elif quote == '"':
            quote = "" if char == '"' else quote
        elif char in "'\"":
            quote, quote_line = char, line
        elif char in _OPERATORS:
            complain(f"has {char!r}, a shell operator")
        elif char == "#" and word_start:
            end = text.find("\n", index)
            index = len(text) if end < 0 else end
            continue
        elif (word_start or text[index - 1] == "=") and _JSON_START.match(text, index):
            complain(f"has unquoted JSON at {text[index : index + 20].splitlines()[0]!r}", "put it in single quotes")
        elif char == "~" and word_start:
            complain("has '~', which only a shell would expand", "write the path in full")
        lines.append(line)
        if char == "\n":
            line += 1
        word_start = not quote and char.isspace()
        out.append(char)
        index += 1
    if quote:
        problems.append(Problem(f"{name}:{quote_line}", f"command: a quote {quote} is opened and never closed"))
    return "".join(out), lines, problems


@dataclass(frozen=True)
class Dynamic:
    """What the stack decides about an engine.

    Attributes:
        host: address the engine binds to.
        port: its port.
        served_names: the names it answers to, the first being the canonical one.
        model: a local folder that replaces the model argument, or empty.
        revision: the repository's commit, or empty.
        shutdown_timeout: seconds that running requests get at SIGTERM.
        generation: sampling defaults, for `--override-generation-config`; empty for a model that does not generate.
        log_requests: log each request's sampling parameters.
    """

    host: str
    port: int
    served_names: tuple[str, ...]
    model: str = ""
    revision: str = ""
    shutdown_timeout: int = 20
    generation: Mapping[str, Any] | None = None
    log_requests: bool = False


def apply_dynamic(argv: list[str], dynamic: Dynamic) -> tuple[list[str], list[str]]:
    """Add the stack's arguments to a fragment's command.

    Who wins when a fragment sets one itself: the stack for --host, --port and --api-key (the gateway has to find the
    engine, and a key must not stand in a file or a process list: it goes by VLLM_API_KEY); the fragment for
    --shutdown-timeout and --revision; both for --served-model-name (the fragment's names are added) and
    --override-generation-config (its sampling values count like those of `litellm:`, the rest is kept).

    Returns:
        The argument list, and a line for each thing of the fragment's that was not taken as written.
    """
    notes: list[str] = []
    argv = list(argv)
    for flag, why in (
        ("--host", "the engine listens where the gateway looks for it"),
        ("--port", "the engine's port is ENGINE_PORT"),
        ("--api-key", "the engine's key is in secrets/VLLM_API_KEY and travels by VLLM_API_KEY"),
    ):
        if take(argv, flag):
            notes.append(f"{flag} of the fragment is not used: {why}")
    names = dict.fromkeys([*dynamic.served_names, *take(argv, "--served-model-name")])
    if dynamic.model:
        argv[2] = dynamic.model
    argv += ["--host", dynamic.host, "--port", str(dynamic.port), "--served-model-name", *names]
    if dynamic.revision and not dynamic.model and not option(argv, "--revision"):
        argv += ["--revision", dynamic.revision]
    if not option(argv, "--shutdown-timeout"):
        argv += ["--shutdown-timeout", str(dynamic.shutdown_timeout)]
    if dynamic.generation is not None:
        merged = {**generation_overrides(argv, "command"), **dynamic.generation}
        take(argv, "--override-generation-config")
        argv += ["--override-generation-config", json.dumps(merged, separators=(",", ":"))]
    if dynamic.log_requests and "--enable-log-requests" not in argv:
        argv += ["--enable-log-requests"]
    return argv, notes


def option(argv: list[str], flag: str) -> list[str]:
    """The values of `flag` in `argv`; several for a flag that takes a list; empty if it is not there."""
    return take(list(argv), flag)


def take(argv: list[str], flag: str) -> list[str]:
    """Remove `flag`, as `--a b` or `--a=b`, dashes or underscores alike, and return its values."""
    values: list[str] = []
    index = 3
    while index < len(argv):
        name, equals, value = argv[index].partition("=")
        if not name.startswith("--") or name.replace("_", "-") != flag:
            index += 1
            continue
        del argv[index]
        if equals:
            values.append(value)
            continue
        while index < len(argv) and not argv[index].startswith("--"):
            values.append(argv.pop(index))
            if flag not in _LISTS:
                break
    return values

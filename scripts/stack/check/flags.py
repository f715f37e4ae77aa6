"""The words of `command:` against the flags of `vllm serve`, read as vLLM's own parser reads them. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from stack.check import catalogue, removed, values
from stack.check.finding import Finding, shorten
from stack.command import Word
from stack.errors import did_you_mean

_NEGATIVE = re.compile(r"^-(?:\d+|\d*\.\d+)$")
_LEVELS = {"0", "1", "2", "3"}
# May stand several times: each adds.
_REPEATABLE = frozenset({"--middleware"})


@dataclass
class Use:
    """A flag in a command.

    Attributes:
        flag: its first long name.
        written: as it stands there, without `=` and what follows.
        line: where.
        texts: its values, each with its line.
        keys: for the dotted form `--flag.key value`: the path of keys, else empty.
        negated: written as --no-….
    """

    flag: str
    written: str
    line: int
    texts: list[Word] = field(default_factory=list)
    keys: tuple[str, ...] = ()
    negated: bool = False


@dataclass(frozen=True)
class At:
    """A finding with its line and the name of the thing."""

    line: int
    name: str
    finding: Finding


def read(words: list[Word]) -> tuple[list[Use], list[At]]:
    """The flags of a command, and what stands in it that is none.

    Args:
        words: all of the command; the first three are `vllm serve MODEL`.
    """
    uses: list[Use] = []
    found: list[At] = []
    rest = _spelled(words[3:])
    while rest:
        word = rest.pop(0)
        if not _is_option(word.text):
            found.append(At(word.line, shorten(word.text), _stray(uses)))
            continue
        use = _use(word, rest, found)
        if use:
            uses.append(use)
    return uses, found


def check(uses: list[Use]) -> Iterator[At]:
    """What is wrong with the flags that were read."""
    nested: dict[str, list[Use]] = {}
    for use in uses:
        entry = catalogue.flags()[use.flag]
        if "deprecated" in entry:
            yield At(use.line, use.written, _going(entry["deprecated"]))
        if use.keys:
            nested.setdefault(use.flag, []).append(use)
            continue
        for text in use.texts:
            for path, finding in values.check(use.flag, text.text, entry):
                yield At(text.line, f"{use.written}: {path}" if path else use.written, finding)
    for flag, parts in nested.items():
        yield from _nested(flag, parts)
    yield from _twice(uses)


def _spelled(words: list[Word]) -> list[Word]:
    """Flags with dashes where they may have underscores, and -O3 as what it stands for."""
    found: list[Word] = []
    for index, word in enumerate(words):
        text = word.text
        if text.startswith("--"):
            name, equals, value = text.partition("=")
            head, dot, keys = name.partition(".")
            found.append(Word(f"{head.replace('_', '-')}{dot}{keys}{equals}{value}", word.line))
        elif text.startswith("-O") and text != "-O":
            level = text[3:] if text[2] == "=" else text[2:]
            found += [Word("--optimization-level", word.line), Word(level, word.line)]
        elif text == "-O" and index + 1 < len(words) and words[index + 1].text in _LEVELS:
            found.append(Word("--optimization-level", word.line))
        else:
            found.append(word)
    return found


def _is_option(text: str) -> bool:
    if not text.startswith("-") or len(text) == 1:
        return False
    name = text.partition("=")[0]
    if name in catalogue.names() or "." in name:
        return not _NEGATIVE.match(text) or "." in name
    return not _NEGATIVE.match(text) and " " not in text


def _stray(uses: list[Use]) -> Finding:
    if uses and catalogue.flags()[uses[-1].flag]["value"] in ("flag", "switch") and not uses[-1].texts:
        before = uses[-1]
        cure = f"{before.written} takes none: leave it out"
        if catalogue.flags()[before.flag]["value"] == "flag":
            cure += f"; to switch it off write --no-{before.flag[2:]}"
        return Finding("is no flag, and no flag's value", cure)
    return Finding("is no flag, and no flag's value", "quote values that have blanks in them")


def _use(word: Word, rest: list[Word], found: list[At]) -> Use | None:
    """Take a flag's values off `rest`."""
    written, equals, value = word.text.partition("=")
    head, dot, dotted = written.partition(".")
    name, joined = _resolve(head, found, word.line)
    if not name:
        if not equals:  # what follows would be its value
            while rest and not _is_option(rest[0].text):
                rest.pop(0)
        return None
    flag = catalogue.names()[name]
    use = Use(flag, head, word.line, negated=name.startswith("--no-") and flag != name)
    given = [Word(value, word.line)] if equals else [Word(joined, word.line)] if joined else []
    if dot:
        # vLLM takes the next word, whatever it is.
        use.texts = given or ([rest.pop(0)] if rest else [])
        keys = dotted.removesuffix("+")
        use.keys = tuple(keys.split("."))
        if dotted.endswith("+") and use.texts:
            use.texts = [Word(json.dumps(use.texts[0].text.split(",")), use.texts[0].line)]
        if not use.texts:
            found.append(At(word.line, written, Finding("has no value")))
            return None
        return use
    entry = catalogue.flags()[flag]
    if entry["value"] in ("flag", "switch"):
        if given:
            cure = f"write {head} alone" + (f", or --no-{flag[2:]}" if entry["value"] == "flag" else ", or leave it out")
            found.append(At(word.line, head, Finding("takes no value", cure)))
        return use
    use.texts = given
    several = entry.get("nargs") == "+"
    while not equals and not joined and rest and not _is_option(rest[0].text) and (several or not use.texts):
        use.texts.append(rest.pop(0))
    if not use.texts and entry.get("nargs") != "?":
        cure = "choose one: " + ", ".join(entry["choices"][:12]) if "choices" in entry else ""
        found.append(At(word.line, head, Finding("has no value", cure)))
    return use


def _resolve(head: str, found: list[At], line: int) -> tuple[str, str]:
    """The name a word stands for, and a value that is joined to it; an empty name if it is none."""
    names = catalogue.names()
    if head in names:
        return head, ""
    if head.startswith("--"):
        found.append(At(line, head, _unknown(head)))
        return "", ""
    if head[:2] in names:
        return head[:2], head[2:]
    cure = did_you_mean(head, [name for name in names if not name.startswith("--")])
    longer = "--" + head.lstrip("-").replace("_", "-")
    if longer in names:
        cure = f"write {longer}"
    found.append(At(line, head, Finding("unknown flag", cure or did_you_mean(longer, names))))
    return "", ""


def _unknown(head: str) -> Finding:
    names = catalogue.names()
    if head in removed.FLAGS:
        return Finding(f"vLLM {catalogue.version()} no longer has this flag", removed.FLAGS[head])
    longer = [name for name in names if name.startswith(head)]
    if len(longer) == 1:
        return Finding("is short for a flag, which the stack does not read", f"write {longer[0]}")
    positive = f"--{head[5:]}" if head.startswith("--no-") else ""
    if positive in names:
        return Finding("unknown flag", f"{positive} cannot be negated: leave it out")
    return Finding("unknown flag", did_you_mean(head, names))


def _going(told: Mapping[str, str]) -> Finding:
    end = f" and gone in {told['removal']}" if "removal" in told else ""
    return Finding(f"deprecated{end}", f"use {told['instead']}" if "instead" in told else "leave it out", "warning")


def _nested(flag: str, parts: list[Use]) -> Iterator[At]:
    entry = catalogue.flags()[flag]
    reader = str(entry["value"]).removesuffix("?")
    if reader not in ("json", "object_or_str") and reader not in catalogue.classes():
        for part in parts:
            yield At(part.line, f"{part.written}.{'.'.join(part.keys)}", Finding("has no keys", f"write {flag} VALUE"))
        return
    whole: dict[str, Any] = {}
    lines: dict[tuple[str, ...], int] = {}
    for part in parts:
        inner = whole
        for key in part.keys[:-1]:
            step = inner.setdefault(key, {})
            inner = step if isinstance(step, dict) else {}
        inner[part.keys[-1]] = _dotted_value(part.texts[0].text)
        lines[part.keys] = part.line
    for path, finding in values.check_json(flag, whole, reader, entry):
        keys = tuple(path.split("."))
        line = next((lines[one] for one in lines if one[: len(keys)] == keys or keys[: len(one)] == one), parts[0].line)
        yield At(line, f"{parts[0].written}.{path}", finding)


def _dotted_value(text: str) -> Any:
    for read in (json.loads, values.size):
        try:
            return read(text)
        except (ValueError, RecursionError):
            continue
    return text


def _twice(uses: list[Use]) -> Iterator[At]:
    seen: dict[tuple[str, tuple[str, ...]], Use] = {}
    for use in uses:
        before = seen.get((use.flag, use.keys))
        if before and use.flag not in _REPEATABLE:
            what = f"stands twice, first in line {before.line}: the last one counts"
            yield At(use.line, use.written, Finding(what, "keep one of them", "warning"))
        seen[use.flag, use.keys] = use
    for flag, keys in list(seen):
        if keys and (flag, ()) in seen:
            use = seen[flag, ()]
            what = f"is not read: {seen[flag, keys].written}.{'.'.join(keys)} takes its place as a whole"
            yield At(use.line, use.written, Finding(what, "write all keys in one of the two ways"))
            return

"""`env:` against the environment variables that vLLM reads, and how it reads them. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from stack.check import catalogue, removed
from stack.check.finding import Finding, choices, shorten
from stack.errors import did_you_mean, similarity

_MEANT_TRUE = frozenset({"1", "true", "yes", "on", "y", "t"})
_MEANT_FALSE = frozenset({"", "0", "false", "no", "off", "n", "f", "none"})
# A name this like one of vLLM's is taken for a slip.
_ALIKE = 0.9
_SWITCH_CURE = 'write "1" or "0"'


def check(name: str, text: str) -> Finding | None:
    """What is wrong with a variable, or None."""
    known = catalogue.env()
    if name in known:
        return _check_value(text, known[name])
    if name in removed.ENV:
        return Finding(f"vLLM {catalogue.version()} does not read this variable", removed.ENV[name])
    if name.startswith("VLLM_"):
        # Without the prefix, which all have in common and which makes any two names alike.
        ends = {other.removeprefix("VLLM_"): other for other in known if other.startswith("VLLM_")}
        cure = did_you_mean(name.removeprefix("VLLM_"), ends)
        for end, other in sorted(ends.items(), key=lambda item: -len(item[0])):
            cure = cure.replace(f" {end}", f" {other}")
        return Finding(f"vLLM {catalogue.version()} does not read this variable", cure or "leave it out")
    alike = [other for other in known if similarity(name, other) >= _ALIKE]
    return Finding("is not known, but is nearly a name that vLLM reads", did_you_mean(name, alike)) if alike else None


def _check_value(text: str, entry: Mapping[str, Any]) -> Finding | None:
    kind = entry["kind"]
    if kind in ("int", "bool", "float"):
        return _number(text, kind)
    if kind == "word":
        return _word(text, entry["true"])
    if kind in ("one", "some"):
        given = [part.strip() for part in text.split(",") if part.strip()] if kind == "some" else [text]
        any_case = entry["any_case"]
        allowed = {str(name).lower() if any_case else str(name) for name in entry["choices"]}
        for part in given:
            if (part.lower() if any_case else part) not in allowed:
                cure = did_you_mean(part, entry["choices"]) or choices(entry["choices"])
                return Finding(f"no such value: {shorten(part)!r}", cure)
    if kind == "json" and text.lstrip()[:1] in ("{", "["):
        try:
            json.loads(text)
        except ValueError as error:
            return Finding(f"is not JSON: {error}")
    return None


def _number(text: str, kind: str) -> Finding | None:
    try:
        (float if kind == "float" else int)(text)
    except ValueError:
        wanted = {"float": "a number", "int": "a whole number", "bool": "0 or 1"}[kind]
        cure = _SWITCH_CURE if kind == "bool" else "vLLM fails on anything else when it reads it"
        return Finding(f"expected {wanted}, got {shorten(text)!r}", cure)
    return None


def _word(text: str, true: list[str]) -> Finding | None:
    if text in true or text.strip() in true or text.strip().lower() in _MEANT_FALSE:
        return None
    shown = " or ".join(sorted({word.lower() for word in true}))
    what = f"{shorten(text)!r} is read as false: only {shown} is true"
    meant = text.strip().lower() in _MEANT_TRUE
    return Finding(what, f'write "{true[0]}"' if meant else _SWITCH_CURE, "error" if meant else "warning")

"""JSON values against the classes that vLLM reads them into: keys, types, bounds. Pure.

The rules of types are pydantic's for JSON, which vLLM's configuration classes use: `"3"` is a whole number, `1` is true.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from stack.check import catalogue
from stack.check.finding import Finding, choices, shorten, unknown
from stack.errors import did_you_mean

_BOOLEANS = frozenset({"0", "off", "f", "false", "n", "no", "1", "on", "t", "true", "y", "yes"})
_NAMES = {
    "null": "null",
    "bool": "true or false",
    "int": "a whole number",
    "float": "a number",
    "str": "text",
    "list": "a list",
    "dict": "an object",
    "class": "an object",
}
_BOUNDS = {"gt": "above", "ge": "at least", "lt": "below", "le": "at most"}
# Keys that older versions had, and what they are now.
_RENAMED = {
    ("CompilationConfig", "level"): "mode",
    ("CompilationConfig", "full_cuda_graph"): "cudagraph_mode",
    ("CompilationConfig", "use_cudagraph"): "cudagraph_mode",
    ("SpeculativeConfig", "num_lookahead_slots"): "num_speculative_tokens",
}


def check_object(value: Mapping[str, Any], name: str, path: str = "") -> Iterator[tuple[str, Finding]]:
    """What is wrong with an object.

    Args:
        value: the object.
        name: the class that reads it.
        path: dotted, in front of its keys.

    Yields:
        The dotted path of a key and what is wrong with it.
    """
    known = catalogue.classes()[name]
    for key, item in value.items():
        here = f"{path}.{key}" if path else key
        if key not in known:
            renamed = _RENAMED.get((name, key))
            cure = f"use {renamed}" if renamed else did_you_mean(key, known) or choices(known)
            yield here, Finding("unknown key", cure)
            continue
        yield from _check_value(item, known[key], here)


def _check_value(value: Any, entry: Mapping[str, Any], path: str) -> Iterator[tuple[str, Finding]]:
    alternatives = entry["type"]
    if value is None and entry.get("free"):
        return
    if isinstance(value, dict):
        for one in alternatives:
            if isinstance(one, dict) and "class" in one:
                yield from check_object(value, one["class"], path)
                return
    if not any(_fits(one, value) for one in alternatives) and not _read_by_code(entry, value):
        yield path, _misfit(alternatives, value)
        return
    finding = check_bounds(value, entry)
    if finding:
        yield path, finding


def _read_by_code(entry: Mapping[str, Any], value: Any) -> bool:
    """Whether code of vLLM's may make something of a value that its type does not have."""
    if not entry.get("free"):
        return False
    named = [one for one in entry["type"] if isinstance(one, dict) and ("in" in one or "name" in one)]
    return not named and entry["type"] != ["bool"]


def _misfit(alternatives: list[Any], value: Any) -> Finding:
    names: list[Any] = []
    for one in alternatives:
        if isinstance(one, dict):
            names += [*one.get("in", ()), *one.get("name", ())]
    if names and isinstance(value, str):
        return unknown(value, names)
    kinds = [_NAMES[one if isinstance(one, str) else next(iter(one))] for one in alternatives if _named(one)]
    wanted = " or ".join(dict.fromkeys(kinds)) or choices(names)
    return Finding(f"expected {wanted}, got {shorten(_json(value))}")


def _named(one: Any) -> bool:
    return (one if isinstance(one, str) else next(iter(one))) in _NAMES


def _json(value: Any) -> str:
    return (
        {True: "true", False: "false", None: "null"}[value]
        if value is None or value is True or value is False
        else repr(value)
    )


def _fits(one: Any, value: Any) -> bool:
    if isinstance(one, str):
        return _fits_plain(one, value)
    if "in" in one:
        return any(type(value) is type(choice) and value == choice for choice in one["in"])
    if "name" in one:
        named = isinstance(value, str) and value.upper().split(".")[0] in {str(name).upper() for name in one["name"]}
        return named or any(type(value) is type(choice) and value == choice for choice in one.get("value", ()))
    if "list" in one:
        return isinstance(value, list) and all(any(_fits(item, part) for item in one["list"]) for part in value)
    if "dict" in one:
        return isinstance(value, dict) and all(any(_fits(item, part) for item in one["dict"]) for part in value.values())
    return isinstance(value, dict)


def _fits_plain(one: str, value: Any) -> bool:
    if one == "any":
        return True
    if one == "null":
        return value is None
    if one == "str":
        return isinstance(value, str)
    if one == "bool":
        if isinstance(value, str):
            return value.lower() in _BOOLEANS
        return isinstance(value, bool) or (isinstance(value, int | float) and value in (0, 1))
    return number(value, whole=one == "int") is not None


def number(value: Any, *, whole: bool) -> float | None:
    """A JSON value as the number that pydantic reads it as, or None."""
    if isinstance(value, bool):
        return float(value)
    try:
        found = float(value) if isinstance(value, int | float | str) else None
    except (ValueError, OverflowError):
        return None
    if found is None or (whole and (not math.isfinite(found) or found != int(found))):
        return None
    return found


def check_bounds(value: Any, entry: Mapping[str, Any]) -> Finding | None:
    """What is wrong with the size of a number; values that are none have no size."""
    limits = {name: entry[name] for name in _BOUNDS if name in entry}
    size = number(value, whole=False) if limits and value is not None else None
    if size is None:
        return None
    fits = {
        "gt": lambda limit: size > limit,
        "ge": lambda limit: size >= limit,
        "lt": lambda limit: size < limit,
        "le": lambda limit: size <= limit,
    }
    if all(fits[name](limit) for name, limit in limits.items()):
        return None
    wanted = " and ".join(f"{_BOUNDS[name]} {limit:g}" for name, limit in limits.items())
    return Finding(f"expected {wanted}, got {shorten(str(value))}")

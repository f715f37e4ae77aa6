"""The text of a flag's value against how vLLM's parser reads it. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from stack.check import catalogue
from stack.check.finding import Finding, shorten, unknown
from stack.check.keys import check_bounds, check_object
from stack.check.sampling import check_param
from stack.errors import did_you_mean

# As in vllm/utils/argparse_utils.py, human_readable_int.
_SIZE = re.compile(r"(\d+(?:\.\d+)?)([kKmMgGtT])")
_POWERS = {"k": 1, "m": 2, "g": 3, "t": 4}
# As in vllm/engine/arg_utils.py: numbers such as 80m outside of JSON's strings.
_JSON_PARTS = re.compile(r'("(?:[^"\\]|\\.)*")')
_JSON_SIZE = re.compile(r"\b\d+(?:\.\d+)?[kKmMgGtT]\b")
_OBJECT = re.compile(r"(?s)^\s*{.*}\s*$")
_LONGEST = 4000  # digits that Python turns into a number
Found = Iterator[tuple[str, Finding]]


def size(text: str) -> int:
    """`32k` is 32000, `32K` is 32768.

    Raises:
        ValueError: neither a whole number nor that.
    """
    text = text.strip()
    match = _SIZE.fullmatch(text)
    if not match:
        return int(text)
    digits, unit = match.groups()
    if unit.islower():
        return int(float(digits) * 1000 ** _POWERS[unit])
    return int(int(digits) * 1024 ** _POWERS[unit.lower()])


def check(flag: str, text: str, entry: Mapping[str, Any]) -> Found:
    """What is wrong with one value of a flag.

    Args:
        flag: its name.
        text: the value.
        entry: the flag in the catalogue.

    Yields:
        A dotted path inside the value, empty for the value itself, and what is wrong there.
    """
    reader = str(entry["value"])
    if reader.endswith("?"):
        if text in ("", "None"):
            return
        reader = reader[:-1]
    if len(text) > _LONGEST and reader in _NUMBERS:
        yield "", Finding(f"expected a number, got {shorten(text)!r}")
    elif reader in _NUMBERS:
        yield from _number(text, reader, entry)
    elif reader in ("json", "object_or_str") or reader in catalogue.classes():
        yield from _json(flag, text, reader, entry)
    else:
        yield from _word(text, reader, entry)


_NUMBERS: Mapping[str, tuple[Callable[[str], float], str]] = {
    "int": (int, "a whole number"),
    "float": (float, "a number"),
    "size": (size, "a whole number, such as 8192, 8k (8000) or 8K (8192)"),
    "size_or_auto": (size, "a length such as 8192, 8k (8000) or 8K (8192), or auto"),
}


def _number(text: str, reader: str, entry: Mapping[str, Any]) -> Found:
    if reader == "size_or_auto" and text.strip().lower() == "auto":
        return
    read, wanted = _NUMBERS[reader]
    try:
        value = read(text)
    except ValueError:
        yield "", Finding(f"expected {wanted}, got {shorten(text)!r}")
        return
    finding = check_bounds(value, entry)
    if finding:
        yield "", finding


def _word(text: str, reader: str, entry: Mapping[str, Any]) -> Found:
    read = text.lower().replace("-", "_") if reader == "lower" else text
    if "choices" in entry and read not in entry["choices"]:
        yield "", unknown(read, entry["choices"])
    elif "known" in entry and not _known(text, entry["known"]):
        yield "", unknown(text, entry["known"])


def _known(text: str, names: list[str]) -> bool:
    """Names in capitals are those of enumerations, which vLLM finds in any case."""
    return text in names or (text.upper() in names and all(name.isupper() or name.isdecimal() for name in names))


def _json(flag: str, text: str, reader: str, entry: Mapping[str, Any]) -> Found:
    if reader == "object_or_str" and not _OBJECT.match(text):
        if flag == "--hf-overrides":
            yield "", Finding(f"expected a JSON object, got {shorten(text)!r}", "write it as '{\"key\": value}'")
        return
    try:
        value = json.loads(_expanded(text) if reader in catalogue.classes() else text)
    except (ValueError, RecursionError) as error:
        yield "", Finding(f"is not JSON: {error}", "write it as '{\"key\": value}', in single quotes")
        return
    yield from check_json(flag, value, reader, entry)


def check_json(flag: str, value: Any, reader: str, entry: Mapping[str, Any]) -> Found:
    """What is wrong with a value that has been read as JSON."""
    name = entry.get("keys") or (reader if reader in catalogue.classes() else "")
    if name:
        if not isinstance(value, dict):
            yield "", Finding("expected a JSON object", "write it as '{\"key\": value}'")
            return
        yield from check_object(value, name)
    elif flag == "--override-generation-config" and isinstance(value, dict):
        yield from _generation(value)
    elif flag == "--hf-overrides" and isinstance(value, dict):
        yield from _overrides(value)


def _generation(value: Mapping[str, Any]) -> Found:
    known = catalogue.engine()["generation"]
    for key, item in value.items():
        if key not in known:
            near = did_you_mean(key, known)
            cure = near or f"vLLM takes {', '.join(known)}"
            yield key, Finding("is ignored by vLLM", cure, "error" if near else "warning")
        else:
            finding = check_param(key, item)
            if finding:
                yield key, finding


def _overrides(value: Mapping[str, Any]) -> Found:
    """Any key is taken and none is refused: a wrong one changes nothing. Models with code of their own may have others."""
    known = catalogue.hf_config_keys()
    for key, item in value.items():
        if key not in known:
            cure = did_you_mean(key, known) or "what no model reads changes nothing"
            yield key, Finding("no model's configuration is known to have this key", cure, "warning")
        elif isinstance(item, dict) and key.endswith("_config"):
            for path, finding in _overrides(item):
                yield f"{key}.{path}", finding


def _expanded(text: str) -> str:
    parts = _JSON_PARTS.split(text)
    for index in range(0, len(parts), 2):
        parts[index] = _JSON_SIZE.sub(lambda match: str(size(match[0])), parts[index])
    return "".join(parts)

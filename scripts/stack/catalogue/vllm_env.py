"""Which environment variables the real vLLM reads, and how: found out by feeding its readers. Runs in its environment."""

from __future__ import annotations

import os
from typing import Any

from stack.catalogue.describe import closure, in_order

# A value of each kind, and what readers are fed to find out which kinds they take.
_PROBES = {
    "empty": "",
    "zero": "0",
    "one": "1",
    "int": "17",
    "negative": "-1",
    "float": "1.5",
    "word": "qwertz",
    "object": "{}",
}
# Whose default follows from how many processors there are.
_BY_MACHINE = frozenset({"VLLM_MAX_AUDIO_PREPROCESS_WORKERS"})
_TRUE_WORDS = ("1", "true", "True", "TRUE", "yes", "on", "y", "t")


def environment() -> dict[str, dict[str, Any]]:
    """Each variable that vLLM reads, and how."""
    import vllm.envs as envs

    kept = dict(os.environ)
    found: dict[str, dict[str, Any]] = {}
    for name in sorted(envs.environment_variables):
        reader = envs.environment_variables[name]
        os.environ.pop(name, None)
        default = reader()
        shown = {"default": default} if isinstance(default, bool | int | float) and name not in _BY_MACHINE else {}
        found[name] = {**_reader_kind(name, reader), **shown}
        os.environ.clear()
        os.environ.update(kept)
    return found


def _reader_kind(name: str, reader: Any) -> dict[str, Any]:
    cells = closure(reader) if getattr(reader, "__closure__", None) else {}
    if "func" in cells or "choices" in cells:
        choices = cells.get("choices", [])
        choices = choices() if callable(choices) else choices
        kind = "one" if reader.__name__ == "_get_validated_env" else "some"
        return {"kind": kind, "choices": in_order(choices), "any_case": not cells.get("case_sensitive", True)}
    taken, results = set(), {}
    for probe, text in _PROBES.items():
        os.environ[name] = text
        try:
            results[probe] = reader()
            taken.add(probe)
        except Exception:  # noqa: S112 (whatever the reader raises is its way to refuse)
            continue
    numbers = {"zero", "one", "int"}
    if "word" in taken:
        true = [word for word in _TRUE_WORDS if _true(name, reader, word)]
        if {type(result) for result in results.values()} <= {bool, type(None)} and 0 < len(true) < len(_TRUE_WORDS):
            return {"kind": "word", "true": true}
        return {"kind": "text"}
    if numbers <= taken:
        kind = "float" if "float" in taken else "bool" if isinstance(results["int"], bool) else "int"
        made: dict[str, Any] = {"kind": kind}
        if "negative" not in taken:
            made["ge"] = 0
        if "empty" in taken:
            made["empty"] = True
        return made
    return {"kind": "json"} if "object" in taken else {"kind": "text"}


def _true(name: str, reader: Any, word: str) -> bool:
    os.environ[name] = word
    return reader() is True

"""Reads logs: what a loading engine is doing, and why something failed."""

from __future__ import annotations

import os
import re
from pathlib import Path

# A text in vLLM's log -> what the engine is doing from then on.
_PHASES = (
    ("starting: ", "starting Python and vLLM"),
    ("Initializing a V1 LLM engine", "loading the model"),
    ("Starting to load model", "loading weights"),
    ("Loading weights took", "preparing memory"),
    ("Compiling a graph", "compiling"),
    ("Capturing CUDA graph", "capturing CUDA graphs"),
    ("GPU KV cache size", "warming up"),
    ("CPU KV cache size", "warming up"),
    ("Starting vLLM server", "opening its port"),
)


def _tail(log: Path, size: int = 64 << 10) -> list[str]:
    try:
        with log.open("rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(file.tell() - size, 0))
            return file.read().decode("utf-8", "replace").splitlines()
    except OSError:
        return []


def phase(log: Path) -> str:
    """What the engine is doing, from the newest telling line; empty if there is none."""
    for line in reversed(_tail(log)):
        for text, name in _PHASES:
            if text in line:
                return name
    return ""


# The line on which a program says what went wrong: `ValueError: ...`, `pkg.SomeError: ...`, `error: ...`.
_ERROR_LINE = re.compile(r"(^|\s)([A-Za-z_.]*(Error|Exception)|error|FATAL)\b.*:")


def last_errors(log: Path, count: int = 8) -> list[str]:
    """The end of a log, from the last line that says what went wrong."""
    lines = [line for line in _tail(log) if line.strip() and "WARNING" not in line]
    found = [index for index, line in enumerate(lines) if _ERROR_LINE.search(line)]
    start = found[-1] if found else -count
    return [line[:500] for line in lines[start:][:count]]

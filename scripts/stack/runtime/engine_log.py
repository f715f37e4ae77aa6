"""Reads logs: what a loading engine is doing, and why something failed."""

from __future__ import annotations

import os
import re
from pathlib import Path

from stack import engine_phase


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
    return phase_of(_tail(log))


def phase_of(lines: list[str]) -> str:
    """The same from lines of a log."""
    found = next(filter(None, map(engine_phase.recognise, reversed(lines))), "")
    return "" if found == engine_phase.READY else found  # whoever asks has found that it does not answer


# Uvicorn's, when it begins and when it is told to end.
_BEGINS, _ENDS = "Started server process", "Shutting down"


def server_stops(lines: list[str]) -> bool:
    """Whether the last thing that a server of Uvicorn's said of itself is that it stops."""
    newest = next((line for line in reversed(lines) if _BEGINS in line or line.rstrip().endswith(_ENDS)), "")
    return bool(newest) and _BEGINS not in newest


def stops(log: Path) -> bool:
    """The same from a log."""
    return server_stops(_tail(log))


# The line on which a program says what went wrong: `ValueError: ...`, `pkg.SomeError: ...`, `error: ...`.
_ERROR_LINE = re.compile(r"(^|\s)([A-Za-z_.]*(Error|Exception)|error|FATAL)\b.*:")


def last_errors(log: Path, count: int = 8) -> list[str]:
    """The end of a log, from the last line that says what went wrong."""
    return errors_of(_tail(log), count)


def errors_of(lines: list[str], count: int = 8) -> list[str]:
    """The same from lines of a log."""
    lines = [line for line in lines if line.strip() and "WARNING" not in line]
    found = [index for index, line in enumerate(lines) if _ERROR_LINE.search(line)]
    start = found[-1] if found else -count
    return [line[:500] for line in lines[start:][:count]]


def text(log: Path, size: int = 512 << 10) -> str:
    """The end of a log, as one text."""
    return "\n".join(_tail(log, size))

"""What starts took, by model, command, engine and runtime: a small JSON file. What is wrong with it makes it empty."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from stack.errors import RunError
from stack.files import write_atomic
from stack.progress.estimate import Timed

FILE = "timings.json"
# Starts that are kept; the oldest goes first.
KEEP = 50
_MOST_BYTES = 1 << 20


@dataclass(frozen=True)
class Key:
    """What has to be the same for a start to take as long as the last one.

    Attributes:
        model: the fragment's name.
        command: the digest of the engine's command and environment.
        engine: what it runs from: an environment's folder, or an image.
        runtime: native or docker.
    """

    model: str
    command: str
    engine: str
    runtime: str


@dataclass(frozen=True)
class Past:
    """A start that became ready.

    Attributes:
        key: of what.
        seconds: until all was ready, without what is done only once, such as a download.
        parts: part -> its steps and their seconds, in their order.
        when: UTC, ISO 8601.
    """

    key: Key
    seconds: float
    parts: Mapping[str, tuple[Timed, ...]] = field(hash=False)
    when: str = ""


@dataclass(frozen=True)
class Expected:
    """What a start may take.

    Attributes:
        past: the start it is told from; None if there was none.
        same: that one had the same command, engine and runtime; else it only says roughly how long.
    """

    past: Past | None = None
    same: bool = False


def expected(known: Sequence[Past], key: Key) -> Expected:
    """The newest start that is like `key`; else the newest one of its model on its runtime."""
    for past in reversed(known):
        if past.key == key:
            return Expected(past, same=True)
    for past in reversed(known):
        if (past.key.model, past.key.runtime) == (key.model, key.runtime):
            return Expected(past)
    return Expected()


def read(path: Path) -> list[Past]:
    """The starts that are remembered, oldest first; none if the file is not there or is not what `add` writes."""
    try:
        with path.open("rb") as file:
            data = json.loads(file.read(_MOST_BYTES))
        return [_past(entry) for entry in data["starts"]]
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return []


def add(path: Path, past: Past) -> None:
    """Remember a start in place of the one before it that was like it. What cannot be written is not remembered."""
    stamped = Past(past.key, past.seconds, past.parts, time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()))
    kept = [one for one in read(path) if one.key != past.key][-(KEEP - 1) :]
    text = json.dumps({"starts": [asdict(one) for one in (*kept, stamped)]}, indent=1)
    with contextlib.suppress(RunError, OSError):
        write_atomic(path, text + os.linesep)


def _past(entry: Mapping[str, object]) -> Past:
    key, parts = entry["key"], entry["parts"]
    if not isinstance(key, dict) or not isinstance(parts, dict):
        raise ValueError
    names = {name: str(key[name]) for name in ("model", "command", "engine", "runtime")}
    steps = {str(part): tuple((str(name), _seconds(took)) for name, took in timed) for part, timed in parts.items()}
    return Past(Key(**names), _seconds(entry["seconds"]), steps, str(entry["when"]))


def _seconds(value: object) -> float:
    """A length of time; not a word, nor infinite, nor negative."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e7:
        raise ValueError
    return float(value)

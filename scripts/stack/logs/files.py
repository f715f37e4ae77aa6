"""The native runtime's log files: their ends, and what is added to them."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from stack.logs.lines import Line, stamped

_FIRST = 1 << 17
PAUSE = 0.3


def tail(part: str, path: Path, enough: Callable[[list[Line]], bool]) -> tuple[list[Line], int]:
    """The end of a log: as much as is enough, or all of it. Empty if it is not there.

    Args:
        part: who writes it.
        path: the file.
        enough: told what there is so far; more is read until it says so.

    Returns:
        The lines, and the size of the file up to which they go.
    """
    size = _FIRST
    while True:
        try:
            with path.open("rb") as file:
                newest, end = os.fstat(file.fileno()).st_mtime, file.seek(0, os.SEEK_END)
                file.seek(max(end - size, 0))
                raw = file.read(size)
        except OSError:
            return [], 0
        texts = raw.decode("utf-8", "replace").splitlines()
        whole = size >= end
        found = list(stamped(part, texts if whole else texts[1:], newest))
        if whole or enough(found):
            return found, end
        size *= 4


def follow(paths: Mapping[str, Path], ends: Mapping[str, float]) -> Iterator[list[Line]]:
    """What is added to the files, a batch at a time, each in the order of time; for ever.

    Args:
        paths: part -> file.
        ends: part -> up to which size it has been shown.
    """
    places = {part: int(ends.get(part, 0)) for part in paths}
    rests = dict.fromkeys(paths, b"")
    while True:
        batch: list[Line] = []
        for part, path in paths.items():
            size = _size(path)
            if size < places[part]:
                places[part], rests[part] = size, b""  # its older half was cut away, or it was made anew
            if size == places[part]:
                continue
            try:
                with path.open("rb") as file:
                    file.seek(places[part])
                    raw = rests[part] + file.read(size - places[part])
            except OSError:
                continue
            places[part] = size
            whole, newline, rests[part] = raw.rpartition(b"\n")
            if newline:
                texts = whole.decode("utf-8", "replace").splitlines()
                batch += stamped(part, texts, time.time())
        if batch:
            yield sorted(batch, key=lambda line: line.time)
        time.sleep(PAUSE)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0

"""New lines of the engine's log, each read once, with the time at which they were written."""

from __future__ import annotations

import contextlib
import os
import queue
import re
import subprocess
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Protocol

from stack.progress.steps import BEGIN

# (seconds of the epoch, text)
Line = tuple[float, str]
_BREAK = re.compile(r"[\r\n]+")
# vLLM's time stamp, local and without a year.
_STAMP = re.compile(r"(?:INFO|WARNING|ERROR|DEBUG) (\d\d)-(\d\d) (\d\d):(\d\d):(\d\d) \[")
_BACKLOG = 1 << 20


class Log(Protocol):
    """Where the engine's lines come from."""

    def read(self) -> list[Line]:
        """What has been written since the last call."""

    def close(self) -> None:
        """Read no more."""


class FileLog:
    """A log file, from a position on.

    Args:
        path: the file.
        position: bytes to skip; None to begin with the last start in it, which is then under way.
    """

    def __init__(self, path: Path, position: int | None) -> None:
        self._path, self._rest = path, ""
        self._behind = position is None
        self._position = max(length(path) - _BACKLOG, 0) if position is None else position

    def read(self) -> list[Line]:
        """See Log."""
        try:
            with self._path.open("rb") as file:
                size = os.fstat(file.fileno()).st_size
                if size < self._position:  # it has been cut
                    self._position = size
                file.seek(self._position)
                data = file.read()
        except OSError:
            return []
        self._position += len(data)
        *pieces, self._rest = _BREAK.split(self._rest + data.decode("utf-8", "replace"))
        now = time.time()
        if not self._behind:
            return [(now, piece) for piece in pieces if piece]
        self._behind = False
        return backlog(pieces, now)

    def close(self) -> None:
        """Nothing is open."""


def length(path: Path) -> int:
    """Bytes of a file; 0 if there is none."""
    try:
        return path.stat().st_size
    except OSError:
        return 0


def backlog(lines: list[str], now: float) -> list[Line]:
    """The last start in `lines`, each with the time of the nearest stamp before it, or else after it."""
    begins = [index for index, line in enumerate(lines) if line.startswith(BEGIN)]
    lines = [line for line in lines[begins[-1] if begins else 0 :] if line]
    stamps = [stamp(line, now) for line in lines]
    last = next((one for one in stamps if one is not None), now)
    found = []
    for line, one in zip(lines, stamps, strict=True):
        last = last if one is None else one
        found.append((last, line))
    return found


def stamp(line: str, now: float) -> float | None:
    """When vLLM wrote a line, to the second; the year is the one that makes it the past."""
    match = _STAMP.search(line)
    if match is None:
        return None
    year = time.localtime(now).tm_year
    for candidate in (year, year - 1):
        with contextlib.suppress(ValueError, OverflowError):
            moment = time.mktime((candidate, *map(int, match.groups()), 0, 0, -1))  # type: ignore[arg-type]
            if moment <= now + 1:
                return moment
    return None


class ContainerLog:
    """What a container prints, by one `docker logs --follow` for each start of its process."""

    def __init__(self) -> None:
        self._lines: queue.SimpleQueue[Line] = queue.SimpleQueue()
        self._since = ""
        self._process: subprocess.Popen[bytes] | None = None

    def follow(self, name: str, since: str) -> None:
        """Read what a container's process prints; nothing changes if that is read already.

        Args:
            name: the container's.
            since: when its process started, RFC 3339.
        """
        if since == self._since:
            return
        self.close()
        self._since = since
        argv = ["docker", "logs", "--follow", "--timestamps", "--since", since, name]
        self._process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)
        assert self._process.stdout is not None
        threading.Thread(target=self._work, args=(self._process.stdout,), daemon=True).start()

    def _work(self, output: IO[bytes]) -> None:
        with contextlib.suppress(ValueError, OSError):  # closed meanwhile
            for raw in output:
                for line in stamped(raw.decode("utf-8", "replace")):
                    self._lines.put(line)

    def read(self) -> list[Line]:
        """See Log."""
        found = []
        with contextlib.suppress(queue.Empty):
            while True:
                found.append(self._lines.get_nowait())
        return found

    def close(self) -> None:
        """See Log."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()


def stamped(line: str) -> list[Line]:
    """One line of `docker logs --timestamps`, which may hold several that end with a carriage return."""
    moment, _, text = line.partition(" ")
    try:
        written = datetime.fromisoformat(moment[:19]).replace(tzinfo=UTC).timestamp()
        written += float(f"0.{moment[20:].rstrip('Z')}") if moment[19:20] == "." else 0.0
    except ValueError:
        written, text = time.time(), line
    return [(written, piece) for piece in _BREAK.split(text) if piece]

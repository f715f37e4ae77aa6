"""What people see while something takes long: moving bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import threading
import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn


class Bars:
    """A line with a bar for each phase that goes on, on a terminal."""

    def __init__(self, console: Console) -> None:
        self._progress = Progress(
            SpinnerColumn(finished_text="[green]✓"),
            TextColumn("{task.description}", style="bold"),
            BarColumn(bar_width=24),
            TimeElapsedColumn(),
            TextColumn("{task.fields[text]}"),
            console=console,
        )
        self._tasks: dict[str, TaskID] = {}
        self._lock = threading.Lock()

    def __enter__(self) -> Bars:
        self._progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._progress.stop()

    def phase(self, name: str, text: str, done: float | None = None) -> None:
        """See Report."""
        with self._lock:
            if name not in self._tasks:
                self._tasks[name] = self._progress.add_task(name, total=None, text=text)
            task = self._tasks[name]
            if done is None:
                self._progress.update(task, text=text)
            else:
                self._progress.update(task, text=text, total=1.0, completed=min(done, 0.99))

    def finished(self, name: str, text: str) -> None:
        """See Report."""
        self.phase(name, text)
        with self._lock:
            self._progress.update(self._tasks[name], text=text, total=1.0, completed=1.0)

    def note(self, text: str) -> None:
        """See Report."""
        self._progress.console.print(f"note: {text}", style="yellow", markup=False, highlight=False)


class Lines:
    """A line when a phase begins or changes, at most one in ten seconds for each, and when it ends."""

    EVERY = 10.0

    def __init__(self) -> None:
        self._last: dict[str, tuple[str, float]] = {}
        self._began: dict[str, float] = {}
        self._lock = threading.Lock()

    def __enter__(self) -> Lines:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        return None

    def phase(self, name: str, text: str, done: float | None = None) -> None:
        """See Report."""
        now = time.monotonic()
        with self._lock:
            began = self._began.setdefault(name, now)
            before, when = self._last.get(name, ("", -self.EVERY))
            if text != before and now - when >= (self.EVERY if done is not None else 2.0):
                self._last[name] = (text, now)
                self._print(f"{name}: {text} ({now - began:.0f} s)")

    def finished(self, name: str, text: str) -> None:
        """See Report."""
        self._print(f"{name}: {text}")

    def note(self, text: str) -> None:
        """See Report."""
        self._print(f"note: {text}")

    def _print(self, line: str) -> None:
        print(line, file=sys.stderr, flush=True)


def reporter(console: Console) -> Bars | Lines:
    """Bars on a terminal, else lines."""
    return Bars(console) if console.is_terminal else Lines()

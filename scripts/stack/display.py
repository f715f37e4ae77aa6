"""What people see while something takes long: moving bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import TextIO

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Column
from rich.text import Text

from stack.runtime.report import TOTAL


class Bars:
    """A line with a bar for each phase that goes on, on a terminal, and below them one for the whole."""

    def __init__(self, console: Console) -> None:
        self._rows, self._total = _progress(console, SpinnerColumn()), _progress(console, TextColumn(" "))
        self._live = Live(Group(self._rows, self._total), console=console, refresh_per_second=8)
        self._tasks: dict[str, TaskID] = {}
        self._lock = threading.Lock()

    def __enter__(self) -> Bars:
        self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._live.stop()

    def phase(self, name: str, text: str, done: float | None = None) -> None:
        """See Report."""
        progress = self._total if name == TOTAL else self._rows
        with self._lock:
            if name not in self._tasks:
                self._tasks[name] = progress.add_task(name, total=None, text=text)
            task = self._tasks[name]
            if done is None:
                progress.tasks[progress.task_ids.index(task)].total = None  # `update` cannot take a total away
                progress.update(task, text=text)
            else:
                progress.update(task, text=text, total=1.0, completed=min(done, 0.99))

    def finished(self, name: str, text: str) -> None:
        """See Report."""
        with self._lock:
            task = self._tasks.pop(name, None)
            if task is not None:
                (self._total if name == TOTAL else self._rows).remove_task(task)
        line = Text.assemble(("✓ ", "green"), (name, "bold"), ("  " + text, ""))
        self._live.console.print(line, highlight=False)

    def note(self, text: str) -> None:
        """See Report."""
        self._live.console.print(f"note: {text}", style="yellow", markup=False, highlight=False)


def _progress(console: Console, first: SpinnerColumn | TextColumn) -> Progress:
    return Progress(
        first,
        TextColumn("{task.description}", style="bold", markup=False, table_column=Column(min_width=39, no_wrap=True)),
        BarColumn(bar_width=24),
        TimeElapsedColumn(),
        TextColumn("{task.fields[text]}", markup=False, table_column=Column(no_wrap=True)),
        console=console,
    )


class _Row:
    """A phase that goes on."""

    def __init__(self, now: float) -> None:
        self.began = self.updated = now
        self.text, self.printed, self.shown = "", -1e9, ""

    def line(self, name: str, now: float) -> str:
        """The phase with how long it has been going on."""
        return f"{_joined(name, self.text)} ({now - self.began:.0f} s)"


def _joined(name: str, text: str) -> str:
    """`part: text`; of a step, which is `part: step` itself, `part: step, text`."""
    return f"{name}{', ' if ': ' in name else ': '}{text}" if text else name


class Lines:
    """A line when a phase begins, changes (seldom) and ends, and one when nothing has been said for a while.

    Args:
        clock: seconds.
        output: where they go; standard error.
    """

    EVERY, QUIET = 10.0, 12.0
    # What has not been updated for so long is not what goes on, if something else is.
    FRESH = 2.0

    def __init__(self, clock: Callable[[], float] = time.monotonic, output: TextIO | None = None) -> None:
        self._clock, self._output = clock, output or sys.stderr
        self._rows: dict[str, _Row] = {}
        self._total, self._spoke = "", clock()
        self._lock = threading.RLock()
        self._over = threading.Event()

    def __enter__(self) -> Lines:
        threading.Thread(target=self._work, daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._over.set()

    def phase(self, name: str, text: str, done: float | None = None) -> None:
        """See Report."""
        now = self._clock()
        with self._lock:
            if name == TOTAL:
                self._total = text
                return
            begins = name not in self._rows
            row = self._rows.setdefault(name, _Row(now))
            row.text, row.updated = text, now
            step = ": " in name
            if begins or (text != row.shown and now - row.printed >= (self.EVERY if step or done is not None else 2.0)):
                row.shown, row.printed = text, now
                self._print(self._with_total(name if begins and step else row.line(name, now), step))

    def finished(self, name: str, text: str) -> None:
        """See Report."""
        with self._lock:
            self._rows.pop(name, None)
            if name == TOTAL:
                self._total = ""
            self._print(_joined(name, text))

    def note(self, text: str) -> None:
        """See Report."""
        with self._lock:
            self._print(f"note: {text}")

    def beat(self) -> None:
        """Say what goes on, if nothing has been said for a while."""
        now = self._clock()
        with self._lock:
            if now - self._spoke < self.QUIET or not self._rows:
                return
            newest = max(row.updated for row in self._rows.values())
            going = [(name, row) for name, row in self._rows.items() if newest - row.updated < self.FRESH]
            said = [row.line(name, now) for name, row in going]
            for _, row in going:
                row.shown, row.printed = row.text, now
            self._print(self._with_total("; ".join(said)))

    def _with_total(self, line: str, step: bool = True) -> str:
        return f"{line}; {self._total}" if step and self._total else line

    def _work(self) -> None:
        while not self._over.wait(1):
            self.beat()

    def _print(self, line: str) -> None:
        self._spoke = self._clock()
        # A line of some program's may have control characters; line breaks of ours stay.
        printable = "".join(one if one.isprintable() or one == "\n" else " " for one in line)
        print(printable, file=self._output, flush=True)


def reporter(console: Console) -> Bars | Lines:
    """Bars on a terminal, else lines."""
    return Bars(console) if console.is_terminal else Lines()

"""What the checks see the machine through: programs, folders, time. Tests put others in their place."""

from __future__ import annotations

import contextlib
import ctypes.util
import os
import pwd
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from stack.runtime.layout import Layout

T = TypeVar("T")
# Seconds that a program, or a question over the network, gets.
SECONDS = 4.0


@dataclass(frozen=True)
class Ran:
    """What became of a command.

    Attributes:
        status: its exit status; -1 if it could not be run or did not end.
        out: standard output.
        err: standard error, or why there is no status.
    """

    status: int
    out: str = ""
    err: str = ""

    @property
    def late(self) -> bool:
        """Whether it did not end in its time."""
        return self.status == -1 and self.err.startswith("did not end")


@dataclass
class Probe:
    """The machine as the checks see it.

    Attributes:
        layout: the stack's folders.
        environ: the environment.
        proc: where the kernel shows processes.
        sys: where it shows devices and cgroups.
        dev: where devices are.
        now: seconds of the epoch.
        uid: the effective user.
        seconds: how long a program or a question over the network may take.
        library: finds a shared library by its short name.
    """

    layout: Layout
    environ: Mapping[str, str]
    proc: Path = Path("/proc")
    sys: Path = Path("/sys")
    dev: Path = Path("/dev")
    now: Callable[[], float] = time.time
    uid: int = field(default_factory=os.geteuid)
    seconds: float = SECONDS
    library: Callable[[str], str | None] = ctypes.util.find_library
    _futures: dict[str, Future[Any]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def which(self, program: str) -> str:
        """Where a program is on PATH, or empty."""
        return shutil.which(program, path=self.environ.get("PATH", os.defpath)) or ""

    def run(self, *argv: str) -> Ran:
        """Run a command; it gets `seconds` and no input."""
        found = self.which(argv[0])
        if not found:
            return Ran(-1, err=f"{argv[0]} is not installed")
        try:
            process = subprocess.Popen(
                [found, *argv[1:]],
                env={**self.environ, "LC_ALL": "C"},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                errors="replace",
                start_new_session=True,
            )
        except OSError as error:
            return Ran(-1, err=f"{found} cannot be run: {error.strerror}")
        try:
            out, err = process.communicate(timeout=self.seconds)
        except subprocess.TimeoutExpired:
            # Not waited for: a process that hangs in the kernel does not go.
            with contextlib.suppress(OSError):
                os.killpg(process.pid, signal.SIGKILL)
            return Ran(-1, err=f"did not end within {self.seconds:g} s")
        return Ran(process.returncode, out.strip(), err.strip())

    def once(self, name: str, make: Callable[[], T]) -> T:
        """What `make` returns, made by the first check that asks; the others wait for it."""
        with self._lock:
            first = name not in self._futures
            future: Future[T] = self._futures.setdefault(name, Future())
        if first:
            try:
                future.set_result(make())
            except BaseException as error:
                future.set_exception(error)
        return future.result()

    def expand(self, path: str) -> Path:
        """A path with ~ put in; left as it is where no home is known."""
        if path != "~" and not path.startswith("~/"):
            return Path(path)
        home = self.environ.get("HOME", "")
        with contextlib.suppress(KeyError):
            home = home or pwd.getpwuid(self.uid).pw_dir
        return Path(home + path[1:]) if home else Path(path)


def limited(make: Callable[[], T], seconds: float) -> T:
    """What `make` returns, or TimeoutError: for calls that take no time limit, such as the resolver's."""
    future: Future[T] = Future()

    def work() -> None:
        try:
            future.set_result(make())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=work, daemon=True).start()
    try:
        return future.result(seconds)
    except TimeoutError:
        raise
    except Exception as error:
        # Before Python 3.11 the module's own class.
        if type(error).__name__ == "TimeoutError" and not future.done():
            raise TimeoutError(f"no answer within {seconds:g} s") from None
        raise


def read(path: Path) -> str:
    """A file's text, stripped; empty if it cannot be read."""
    try:
        return path.read_text("utf-8", "replace").strip()
    except OSError:
        return ""


def size(count: float) -> str:
    """A number of bytes for people."""
    for unit, step in (("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20)):
        if count >= step:
            return f"{count / step:.{0 if count >= 100 * step else 1}f} {unit}"
    return f"{int(count)} B" if count < 1024 else f"{count / 1024:.0f} KiB"


def first_line(*texts: str) -> str:
    """The first line that says something, cut to what a line of the result bears."""
    lines = [line.strip() for text in texts for line in text.splitlines() if line.strip()]
    return lines[0][:300] if lines else ""


def version(text: str) -> tuple[int, ...]:
    """The numbers of a version; empty if there are none."""
    numbers = []
    for part in text.strip().lstrip("v").split("."):
        digits = part[: len(part) - len(part.lstrip("0123456789"))]
        if not digits:
            break
        numbers.append(int(digits))
        if digits != part:
            break
    return tuple(numbers)

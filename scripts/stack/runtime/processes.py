"""Processes by identity: a pid alone may have been given to somebody else since."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from stack.files import write_atomic


@dataclass(frozen=True)
class Identity:
    """A process that cannot be mistaken for another.

    Attributes:
        pid: its number.
        start: clock ticks after boot at which it started (proc(5): stat, field 22).
    """

    pid: int
    start: int

    @classmethod
    def of(cls, pid: int) -> Identity | None:
        """The identity of the process that has `pid` now, or None."""
        try:
            stat = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace")
        except OSError:
            return None
        fields = stat[stat.rindex(")") + 2 :].split()
        return None if fields[0] == "Z" else cls(pid, int(fields[19]))

    @classmethod
    def read(cls, path: Path) -> Identity | None:
        """From a file written by `write`; None if it is not there or the process is gone."""
        try:
            pid, start = path.read_text().split()
            identity = cls(int(pid), int(start))
        except (OSError, ValueError):
            return None
        return identity if identity.alive() else None

    def write(self, path: Path) -> None:
        """To a file."""
        write_atomic(path, f"{self.pid} {self.start}\n")

    def alive(self) -> bool:
        """Whether the process still runs."""
        return Identity.of(self.pid) == self

    def wait(self, seconds: float | None) -> bool:
        """Wait for its end, child or not; False if it still runs after `seconds`."""
        try:
            handle = os.pidfd_open(self.pid)
        except OSError:
            return True
        try:
            poll = select.poll()
            poll.register(handle, select.POLLIN)
            return bool(poll.poll(None if seconds is None else seconds * 1000)) or not self.alive()
        finally:
            os.close(handle)

    def send(self, number: int) -> None:
        """Send a signal, if it is still there."""
        if self.alive():
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)


def session_members(session: int) -> list[Identity]:
    """Processes of a session, the leader included if it lives."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                if os.getsid(int(entry.name)) == session:
                    identity = Identity.of(int(entry.name))
                    if identity:
                        found.append(identity)
    return found


def end_session(session: int, seconds: float = 5.0) -> list[int]:
    """Kill whatever is left of a session and wait until it is gone.

    Returns:
        The pids that were killed.
    """
    killed = []
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        members = [member for member in session_members(session) if member.pid != os.getpid()]
        if not members:
            break
        for member in members:
            member.send(signal.SIGKILL)
            killed.append(member.pid)
        for member in members:
            member.wait(0.5)
    return killed

"""Keeps one service running."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from stack.runtime.processes import Identity, end_session
from stack.runtime.spec import Service

TICK = 0.2
FIRST_DELAY, LONGEST_DELAY = 0.5, 30.0
STEADY_AFTER = 30.0  # seconds of running after which a service counts as steady again
LOG_LIMIT = 64 << 20
IDLE_STOP_SECONDS = 2.0


@dataclass
class Record:
    """What is known of a running service; kept in status.json so that a new supervisor can take over."""

    pid: int = 0
    start: int = 0
    since: float = 0.0
    restarts: int = 0
    last_exit: str = ""
    digest: str = ""


class Keeper(threading.Thread):
    """Starts one service, and again whenever it ends."""

    def __init__(self, service: Service, record: Record, changed: threading.Event) -> None:
        super().__init__(name=service.name, daemon=True)
        self.service = service
        self._earlier = record
        # What was counted for an older version of the service says nothing about this one.
        self.record = record if record.digest == service.digest else Record()
        self.stopping = threading.Event()
        self._changed = changed
        self._process: subprocess.Popen[bytes] | None = None

    def run(self) -> None:
        """Until `stop`: start, wait for the end, clear away what is left, start again."""
        delay = FIRST_DELAY
        identity = self._taken_over()
        while not self.stopping.is_set():
            if identity is None:
                identity = self._start()
            if identity is not None:
                while not identity.wait(TICK) and not self.stopping.is_set():
                    _trim_log(Path(self.service.log))
                if self.stopping.is_set():
                    break
                self._note_end(identity)
            steady = time.time() - self.record.since > STEADY_AFTER
            delay = FIRST_DELAY if steady else min(delay * 2, LONGEST_DELAY)
            identity = None
            self.stopping.wait(delay)
        if identity is not None:
            self._end(identity)
        self.record.pid = 0
        self._changed.set()

    def stop(self) -> None:
        """Ask the service to end; `join` waits until it has."""
        self.stopping.set()

    def _taken_over(self) -> Identity | None:
        earlier = Identity(self._earlier.pid, self._earlier.start)
        if not earlier.pid:
            return None
        if earlier.alive():
            if self._earlier.digest == self.service.digest:
                return earlier
            self._end(earlier)
        elif Identity.of(earlier.pid) is None:  # else the number has been given to somebody else
            end_session(earlier.pid)
        return None

    def _start(self) -> Identity | None:
        path = Path(self.service.log)
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with path.open("ab") as output:
                self._process = subprocess.Popen(
                    self.service.argv,
                    env=self.service.env,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
        except OSError as error:
            self.record.last_exit = f"cannot be started: {error}"
            self.record.since, self.record.digest = time.time(), self.service.digest
            self.record.restarts += 1
            self._changed.set()
            return None
        identity = Identity.of(self._process.pid)
        self.record.pid, self.record.start = self._process.pid, identity.start if identity else 0
        self.record.since, self.record.digest = time.time(), self.service.digest
        self._changed.set()
        if identity is None:
            self._note_end(Identity(self._process.pid, 0))
        return identity

    def _note_end(self, identity: Identity) -> None:
        code = self._process.wait() if self._process is not None and self._process.pid == identity.pid else None
        self.record.last_exit = _describe(code)
        end_session(identity.pid)
        self.record.pid = 0
        self.record.restarts += 1
        log(f"{self.service.name} ended ({self.record.last_exit}); starting it again")
        self._changed.set()

    def _end(self, identity: Identity) -> None:
        from stack.runtime.probe import listens  # here, as it brings in an HTTP client that the start can do without

        log(f"stopping {self.service.name}")
        idle = self.service.loads and not listens(self.service.host, self.service.port)
        seconds = min(self.service.stop_seconds, IDLE_STOP_SECONDS) if idle else self.service.stop_seconds
        identity.send(signal.Signals[self.service.stop_signal])
        if not identity.wait(seconds):
            log(f"{self.service.name} did not end within {seconds:g} s; killing it")
            identity.send(signal.SIGKILL)
        if self._process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(5)
        end_session(identity.pid)


def _describe(code: int | None) -> str:
    if code is None:
        return "exit status unknown"
    return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"


def _trim_log(path: Path) -> None:
    """Keep the newest half of a log that has grown too large; the writer appends, so it may be cut in place."""
    with contextlib.suppress(OSError):
        if path.stat().st_size > LOG_LIMIT:
            with path.open("r+b") as file:
                file.seek(-LOG_LIMIT // 2, os.SEEK_END)
                rest = file.read()
                file.seek(0)
                file.write(rest)
                file.truncate()


def log(text: str) -> None:
    """Print a line with the time; the supervisor's output is its log."""
    print(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text}", flush=True)

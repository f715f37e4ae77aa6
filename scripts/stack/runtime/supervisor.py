"""Keeps the native runtime's services running: what Docker's `restart: unless-stopped` does for the other one.

    python -m stack.runtime.supervisor RUN_FOLDER

Two processes watch each other, so that none is beyond help: the supervisor starts and watches the services, the guard
starts and watches the supervisor, and a supervisor whose guard is gone starts another. Services are found again by
pid and start time, so a new supervisor takes over what runs without touching it.

Files in RUN_FOLDER: `services.json` (what to run; SIGHUP reads it again), `status.json` (what runs), `supervisor.pid`,
`guard.pid`. SIGTERM stops the services in reverse order and ends both.

Why not an existing supervisor: none of the well-kept ones takes over running processes after it was itself killed.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from stack.files import write_atomic
from stack.runtime.keeper import TICK, Keeper, Record, log
from stack.runtime.processes import Identity
from stack.runtime.spec import read_services

STOPPED = "stopped"  # the file that says it was stopped on purpose


class Supervisor:
    """Holds the keepers and does what signals and services.json say."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.keepers: dict[str, Keeper] = {}
        self.order: list[str] = []
        self._changed = threading.Event()
        self._reload = threading.Event()
        self._stop = threading.Event()

    def run(self) -> None:
        """Until SIGTERM."""
        signal.signal(signal.SIGHUP, lambda *_: self._reload.set())
        signal.signal(signal.SIGTERM, lambda *_: self._stop.set())
        signal.signal(signal.SIGINT, _nothing)
        lock = _lock(self.folder / "supervisor.lock")
        if lock is None:
            return
        _own_identity().write(self.folder / "supervisor.pid")
        self._reconcile(self._records())
        while not self._stop.is_set():
            if self._reload.is_set():
                self._reload.clear()
                self._reconcile({name: keeper.record for name, keeper in self.keepers.items()})
            if self._changed.is_set():
                self._changed.clear()
                self._write_status()
            if Identity.read(self.folder / "guard.pid") is None:
                _spawn(self.folder, "guard")
                time.sleep(TICK)
            time.sleep(TICK)
        for name in reversed(self.order):
            self.keepers[name].stop()
            self.keepers[name].join()
        (self.folder / "status.json").unlink(missing_ok=True)
        (self.folder / STOPPED).touch()
        (self.folder / "supervisor.pid").unlink(missing_ok=True)

    def _records(self) -> dict[str, Record]:
        try:
            saved: Any = json.loads((self.folder / "status.json").read_text("utf-8"))
            if saved["boot"] != boot_id():
                return {}  # pids of before a reboot belong to others now
            return {name: Record(**entry) for name, entry in saved["services"].items()}
        except (OSError, ValueError, TypeError, KeyError):
            return {}

    def _reconcile(self, records: dict[str, Record]) -> None:
        try:
            services = read_services(self.folder / "services.json")
        except (OSError, ValueError, TypeError) as error:
            log(f"services.json cannot be read, nothing changes: {error}")
            return
        wanted = {service.name: service for service in services}
        going = [
            name
            for name in reversed(self.order)
            if name not in wanted or wanted[name].digest != self.keepers[name].service.digest
        ]
        for name in going:  # one after the other: the gateway's last requests still need the engine
            self.keepers[name].stop()
            self.keepers.pop(name).join()
        self.order = [service.name for service in services]
        for service in services:
            if service.name in self.keepers:
                self.keepers[service.name].service = service  # its next start has the newest environment
            else:
                record = records.get(service.name, Record())
                self.keepers[service.name] = Keeper(service, record, self._changed)
                self.keepers[service.name].start()
        self._changed.set()

    def _write_status(self) -> None:
        services = {name: vars(self.keepers[name].record) for name in self.order}
        with contextlib.suppress(Exception):
            write_atomic(self.folder / "status.json", json.dumps({"boot": boot_id(), "services": services}, indent=2) + "\n")


def guard(folder: Path) -> None:
    """Keep a supervisor running until one says that it stopped on purpose."""
    signal.signal(signal.SIGINT, _nothing)
    signal.signal(signal.SIGHUP, _nothing)
    # Only one guard at a time: two could each start a supervisor.
    lock = _lock(folder / "guard.lock")
    if lock is None:
        return
    _own_identity().write(folder / "guard.pid")
    while not (folder / STOPPED).exists():
        identity = Identity.read(folder / "supervisor.pid")
        if identity is None:
            process = _spawn(folder, "supervise")
            process.wait()
        else:
            identity.wait(None)
        time.sleep(TICK)
    (folder / "guard.pid").unlink(missing_ok=True)


def _spawn(folder: Path, role: str) -> subprocess.Popen[bytes]:
    # The lock of the guard must not be inherited: close_fds is the default.
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "stack.runtime.supervisor", str(folder), role],
        start_new_session=True,
        stdin=subprocess.DEVNULL,
    )


def start(folder: Path, log: Path, env: dict[str, str]) -> None:
    """Start a supervisor in the background, which starts its guard; one that finds another running ends at once."""
    (folder / STOPPED).unlink(missing_ok=True)
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        subprocess.Popen(
            [sys.executable, "-P", "-m", "stack.runtime.supervisor", str(folder), "supervise"],
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def _nothing(*_: object) -> None:
    """Handles a signal by doing nothing. SIG_IGN would be passed on to the services, and some then never hear it."""


def boot_id() -> str:
    """What tells this boot of the machine from others (random(4))."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def _lock(path: Path) -> int | None:
    """A lock held as long as this process lives, or None if another one holds it."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        return None
    return handle


def _own_identity() -> Identity:
    identity = Identity.of(os.getpid())
    assert identity is not None
    return identity


if __name__ == "__main__":
    if sys.argv[2] == "guard":
        guard(Path(sys.argv[1]))
    else:
        Supervisor(Path(sys.argv[1])).run()

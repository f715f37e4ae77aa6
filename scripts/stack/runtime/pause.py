"""The gateway stopped for as long as something needs that; database and engine go on."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from stack.errors import Problem, RunError
from stack.runtime import containers, install
from stack.runtime.layout import Layout
from stack.runtime.report import Report
from stack.runtime.spec import write_services
from stack.runtime.watch import Watch

# Seconds for the gateway to be there again; it may have to bring tables up to date.
START = 300.0


@contextmanager
def gateway(layout: Layout, runtime: Any, report: Report) -> Iterator[None]:
    """Stop the gateway, which lets requests finish and writes the last usage, and start it again whatever happens.

    Raises:
        RunError: it does not run, or does not come back.
    """
    with install.one_at_a_time(layout, report):
        stop, start, ready = _container(layout) if runtime.name == "docker" else _process(layout)
        report.phase("gateway", "stopping; requests under way may finish")
        try:
            stop()
            report.finished("gateway", "stopped")
            yield
        finally:
            report.phase("gateway", "starting again")
            start()
            _wait(ready)
            report.finished("gateway", "ready")


Step = Callable[[], None]


def _process(layout: Layout) -> tuple[Step, Step, Callable[[], bool]]:
    watch = Watch(layout)
    running, services = watch.supervisor(), watch.services()
    if running is None or "gateway" not in services:
        raise RunError(Problem("gateway", "does not run", "start the stack: ./runMe.sh"))
    file = layout.run / "services.json"

    def stop() -> None:
        write_services(file, [one for one in services.values() if one.name != "gateway"])
        running.send(signal.SIGHUP)
        # Until it has ended, not only until it is unwanted: its last act is to write what usage it still has.
        _wait(lambda: not watch.has("gateway"), services["gateway"].stop_seconds + 30)

    def start() -> None:
        write_services(file, list(services.values()))
        running.send(signal.SIGHUP)

    return stop, start, lambda: _ready(watch.parts(without=("engine", "database")))


def _container(layout: Layout) -> tuple[Step, Step, Callable[[], bool]]:
    container = containers.inspect().get("gateway")
    if container is None:
        raise RunError(Problem("gateway", "does not run", "start the stack: ./runMe.sh"))

    def call(verb: str) -> None:
        done = subprocess.run(["docker", verb, container.name], capture_output=True, text=True)
        if done.returncode != 0:
            raise RunError(Problem("gateway", f"docker {verb}: {done.stderr.strip()[-300:]}"))

    def ready() -> bool:
        return _ready(containers.parts(layout.secrets, without=("engine", "database")))

    return lambda: call("stop"), lambda: call("start"), ready


def _ready(parts: Any) -> bool:
    return any(part.name == "gateway" and part.state == "ready" for part in parts)


def _wait(done: Callable[[], bool], seconds: float = START) -> None:
    deadline = time.monotonic() + seconds
    while not done():
        if time.monotonic() > deadline:
            raise RunError(Problem("gateway", f"not as wanted after {seconds:.0f} s", "look: ./runMe.sh logs gateway"))
        time.sleep(0.2)

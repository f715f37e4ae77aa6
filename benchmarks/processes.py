"""Processes of a benchmark: started with a log, waited for, ended by their own pid."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from stack.errors import Problem, RunError


def free_port() -> int:
    """A TCP port nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def running(
    name: str,
    argv: Sequence[str],
    log: Path,
    ready: Callable[[], bool],
    *,
    env: Mapping[str, str] | None = None,
    stop_signal: int = signal.SIGTERM,
    seconds: float = 120.0,
) -> Iterator[subprocess.Popen[bytes]]:
    """A process for as long as the block runs.

    Args:
        name: for messages.
        argv: what to run.
        log: file for its output.
        ready: whether it does its work; the block begins then.
        env: its whole environment; None: this process's.
        stop_signal: asks it to end.
        seconds: how long it may take to be ready, and 30 s at most to end before it is killed.

    Raises:
        RunError: it ended or did not become ready.
    """
    with log.open("wb") as output:
        process = subprocess.Popen(
            argv, env=env, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True, cwd="/"
        )
    try:
        began = time.monotonic()
        while not ready():
            ended = process.poll()
            if ended is not None or time.monotonic() - began > seconds:
                what = f"exited with {ended}" if ended is not None else f"not ready after {seconds:g} s"
                tail = log.read_text("utf-8", "replace").strip()[-1500:]
                raise RunError(Problem(name, f"{what}\n{tail}"))
            time.sleep(0.1)
        yield process
    finally:
        _end(process, stop_signal)


def _end(process: subprocess.Popen[bytes], stop_signal: int) -> None:
    if process.poll() is None:
        process.send_signal(stop_signal)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(30)
    # What it started and left behind is in its session's group.
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()

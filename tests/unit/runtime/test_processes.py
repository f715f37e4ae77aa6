"""Processes by identity."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from stack.runtime.processes import Identity, end_session, session_members

Start = Callable[..., "subprocess.Popen[bytes]"]


@pytest.fixture
def start() -> Iterator[Start]:
    """Processes in sessions of their own, ended whatever happens."""
    started: list[subprocess.Popen[bytes]] = []

    def run(*argv: str) -> subprocess.Popen[bytes]:
        started.append(subprocess.Popen(argv, start_new_session=True))
        return started[-1]

    yield run
    for process in started:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait(timeout=10)


def _identity(process: subprocess.Popen[bytes]) -> Identity:
    found = Identity.of(process.pid)
    assert found is not None
    return found


def test_identity_lives_as_long_as_its_process(start: Start) -> None:
    process = start("sleep", "30")
    identity = _identity(process)
    assert identity.alive()
    assert Identity.of(process.pid) == identity
    process.kill()
    process.wait()
    assert not identity.alive()
    assert Identity.of(process.pid) is None


def test_zombie_is_not_alive(start: Start) -> None:
    process = start("sleep", "30")
    identity = _identity(process)
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert not identity.alive()


def test_another_process_with_the_same_pid_is_not_it(start: Start) -> None:
    process = start("sleep", "30")
    other = Identity(process.pid, _identity(process).start - 1)
    assert not other.alive()
    other.send(signal.SIGKILL)
    assert process.poll() is None


def test_name_with_parentheses_and_blanks(start: Start, tmp_path: Path) -> None:
    program = tmp_path / "a) S (b"
    program.symlink_to("/bin/sleep")
    process = start(str(program), "30")
    assert _identity(process).pid == process.pid


def test_file(start: Start, tmp_path: Path) -> None:
    process = start("sleep", "30")
    identity = _identity(process)
    identity.write(tmp_path / "pid")
    assert Identity.read(tmp_path / "pid") == identity
    process.kill()
    process.wait()
    assert Identity.read(tmp_path / "pid") is None


@pytest.mark.parametrize("text", ["", "12", "a b", "1 2 3"])
def test_bad_file(tmp_path: Path, text: str) -> None:
    (tmp_path / "pid").write_text(text)
    assert Identity.read(tmp_path / "pid") is None
    assert Identity.read(tmp_path / "gone") is None


def test_wait_also_for_a_process_that_is_not_a_child(start: Start, tmp_path: Path) -> None:
    start("bash", "-c", f"sleep 0.5 & echo $! > {tmp_path}/part; mv {tmp_path}/part {tmp_path}/pid; sleep 30")
    deadline = time.monotonic() + 10
    while not (tmp_path / "pid").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    identity = Identity.of(int((tmp_path / "pid").read_text()))
    assert identity is not None
    assert not identity.wait(0.05)
    assert identity.wait(10)
    assert identity.wait(0)


def test_end_session_ends_what_its_leader_left(start: Start) -> None:
    process = start("bash", "-c", "trap '' TERM HUP; sleep 31 & sleep 32 & wait")
    other = start("sleep", "30")
    deadline = time.monotonic() + 10
    while len(session_members(process.pid)) < 3 and time.monotonic() < deadline:
        time.sleep(0.02)
    members = {member.pid for member in session_members(process.pid)}
    assert len(members) == 3
    process.kill()
    process.wait()
    assert set(end_session(process.pid)) == members - {process.pid}
    assert session_members(process.pid) == []
    assert other.poll() is None
    assert end_session(process.pid) == []

"""The supervisor and its guard with real, short-lived services."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from stack.runtime import keeper, pause, probe, supervisor
from stack.runtime.layout import Layout
from stack.runtime.processes import Identity, end_session
from stack.runtime.report import Silent
from stack.runtime.spec import Service, write_services
from stack.runtime.watch import Watch

PATIENCE = 20.0


def until(check: Callable[[], Any], what: str) -> Any:
    """What `check` returns once it is true."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        found = check()
        if found:
            return found
        time.sleep(0.03)
    raise AssertionError(f"did not happen: {what}")


@dataclass
class Stack:
    """A run folder with a supervisor, and everything that was ever seen running for it."""

    folder: Path
    services: list[Service] = field(default_factory=list)
    seen: set[Identity] = field(default_factory=set)

    @property
    def log(self) -> Path:
        """The supervisor's log."""
        return self.folder / "supervisor.log"

    def service(self, name: str, script: str = "exec sleep 300", **changes: Any) -> Service:
        """A service that runs a bash script."""
        env = {"PATH": os.environ["PATH"], "OUT": str(self.folder)}
        return Service(name, ("bash", "-c", script), env, str(self.folder / f"{name}.log"), **changes)

    def write(self, *services: Service) -> None:
        """Write services.json."""
        self.services = list(services)
        write_services(self.folder / "services.json", self.services)

    def start(self, *services: Service) -> None:
        """Start, and wait until all run."""
        self.write(*services)
        supervisor.start(self.folder, self.log, {**os.environ, "PYTHONUNBUFFERED": "1"})
        until(lambda: len(self.pids()) == len(services), "all services run")
        until(lambda: self.watcher("guard") and self.watcher("supervisor"), "guard and supervisor run")

    def status(self) -> dict[str, dict[str, Any]]:
        """Services as status.json has them."""
        with contextlib.suppress(OSError, ValueError):
            found: dict[str, dict[str, Any]] = json.loads((self.folder / "status.json").read_text())["services"]
            return found
        return {}

    def pids(self) -> dict[str, Identity]:
        """Services that run now."""
        running = {}
        for name, record in self.status().items():
            identity = Identity(record["pid"], record["start"])
            if record["pid"] and identity.alive():
                running[name] = identity
        self.seen.update(running.values())
        return running

    def watcher(self, name: str) -> Identity | None:
        """The guard or the supervisor, if it runs."""
        identity = Identity.read(self.folder / f"{name}.pid")
        if identity:
            self.seen.add(identity)
        return identity

    def kill(self, identity: Identity | None) -> None:
        """`kill -9`."""
        assert identity is not None
        identity.send(signal.SIGKILL)
        until(lambda: not identity.alive(), f"{identity.pid} is gone")

    def stop(self) -> None:
        """SIGTERM to the supervisor, and wait for both to end."""
        watchers = [self.watcher("supervisor"), self.watcher("guard")]
        assert watchers[0] is not None
        watchers[0].send(signal.SIGTERM)
        for identity in watchers:
            assert identity is None or identity.wait(PATIENCE)

    def clean(self) -> None:
        """End whatever is left, by pid."""
        (self.folder / "stopped").touch()
        for name in ("guard", "supervisor"):
            identity = self.watcher(name)
            if identity:
                identity.send(signal.SIGKILL)
        self.pids()
        time.sleep(0.1)
        for identity in self.seen:
            end_session(identity.pid)


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    """A run folder; nothing outlives the test."""
    made = Stack(tmp_path / "run")
    made.folder.mkdir()
    yield made
    made.clean()


def test_runs_in_the_environment_and_to_the_log_it_was_told(stack: Stack) -> None:
    stack.start(stack.service("a", 'echo "out $OUT"; echo err >&2; env | cut -d= -f1 | sort > "$OUT/env"; exec sleep 300'))
    text = until(lambda: (stack.folder / "env").exists() and (stack.folder / "a.log").read_text(), "output")
    assert text == f"out {stack.folder}\nerr\n"
    assert set((stack.folder / "env").read_text().split()) <= {"OUT", "PATH", "PWD", "SHLVL", "_"}


def test_killed_service_is_started_again_alone(stack: Stack) -> None:
    stack.start(stack.service("a"), stack.service("b"))
    before = stack.pids()
    stack.kill(before["a"])
    after = until(lambda: len(now := stack.pids()) == 2 and now["a"] != before["a"] and now, "a runs again")
    assert after["b"] == before["b"]
    status = until(lambda: stack.status()["a"]["restarts"] == 1 and stack.status(), "the restart is counted")
    assert (status["a"]["last_exit"], status["b"]["last_exit"]) == ("killed by SIGKILL", "")
    assert "a ended (killed by SIGKILL); starting it again" in stack.log.read_text()


def test_what_a_killed_service_leaves_behind_is_cleared_away(stack: Stack) -> None:
    stack.start(stack.service("a", 'sleep 301 & echo $! > "$OUT/child.part"; mv "$OUT/child.part" "$OUT/child"; wait'))
    child = Identity.of(
        int(until(lambda: (stack.folder / "child").exists() and (stack.folder / "child").read_text(), "child"))
    )
    assert child is not None
    first = stack.pids()["a"]
    stack.kill(first)
    until(lambda: stack.pids().get("a", first) != first, "a runs again")
    assert not child.alive()


@pytest.mark.parametrize(
    ("argv", "last_exit"),
    [(("bash", "-c", "exit 7"), "exit status 7"), (("/nowhere/program",), "cannot be started:")],
    ids=["fails", "not-there"],
)
def test_service_that_cannot_run_is_tried_again(stack: Stack, argv: tuple[str, ...], last_exit: str) -> None:
    stack.write(stack.service("ok"), replace(stack.service("bad"), argv=argv))
    supervisor.start(stack.folder, stack.log, dict(os.environ))
    until(lambda: stack.status().get("bad", {}).get("last_exit", "").startswith(last_exit), "the failure is told")
    assert until(lambda: stack.pids().get("ok"), "the other one runs")


def test_killed_supervisor_comes_back_and_takes_over(stack: Stack) -> None:
    stack.start(stack.service("a"), stack.service("b"))
    services, first, guard = stack.pids(), stack.watcher("supervisor"), stack.watcher("guard")
    stack.kill(first)
    second = until(lambda: (now := stack.watcher("supervisor")) != first and now, "another supervisor")
    assert stack.pids() == services
    assert stack.watcher("guard") == guard
    stack.kill(services["a"])
    after = until(lambda: len(now := stack.pids()) == 2 and now["a"] != services["a"] and now, "a runs again")
    assert after["b"] == services["b"]
    assert stack.watcher("supervisor") == second


def test_service_that_ends_while_nobody_watches_is_started(stack: Stack) -> None:
    stack.start(stack.service("a"), stack.service("b"))
    services, guard, first = stack.pids(), stack.watcher("guard"), stack.watcher("supervisor")
    assert guard is not None
    guard.send(signal.SIGSTOP)
    try:
        stack.kill(first)
        stack.kill(services["a"])
    finally:
        guard.send(signal.SIGCONT)
    after = until(lambda: len(now := stack.pids()) == 2 and now["a"] != services["a"] and now, "a runs again")
    assert after["b"] == services["b"]


def test_killed_guard_comes_back(stack: Stack) -> None:
    stack.start(stack.service("a"))
    services, keeper, first = stack.pids(), stack.watcher("supervisor"), stack.watcher("guard")
    stack.kill(first)
    second = until(lambda: (now := stack.watcher("guard")) != first and now, "another guard")
    assert (stack.pids(), stack.watcher("supervisor")) == (services, keeper)
    stack.kill(keeper)
    until(lambda: (now := stack.watcher("supervisor")) != keeper and now, "another supervisor")
    assert (stack.pids(), stack.watcher("guard")) == (services, second)


def test_second_start_changes_nothing(stack: Stack) -> None:
    stack.start(stack.service("a"))
    before = (stack.pids(), stack.watcher("supervisor"), stack.watcher("guard"))
    stack.start(stack.service("a"))
    time.sleep(1)
    assert (stack.pids(), stack.watcher("supervisor"), stack.watcher("guard")) == before


def _reload(stack: Stack, *services: Service) -> Mapping[str, Identity]:
    stack.write(*services)
    keeper = stack.watcher("supervisor")
    assert keeper is not None
    keeper.send(signal.SIGHUP)
    wanted = {service.name: service.digest for service in services}

    def done() -> dict[str, Identity] | None:
        status, running = stack.status(), stack.pids()
        digests = {name: record["digest"] for name, record in status.items()}
        return running if digests == wanted and set(running) == set(wanted) else None

    found: dict[str, Identity] = until(done, "what is wanted runs")
    return found


def test_reload_starts_only_what_changed(stack: Stack) -> None:
    stack.start(stack.service("a"), stack.service("b"))
    before = stack.pids()
    after = _reload(stack, stack.service("a"), stack.service("b", "exec sleep 299"))
    assert after["a"] == before["a"]
    assert after["b"] != before["b"]
    assert not before["b"].alive()
    assert stack.status()["b"]["restarts"] == 0


def test_reload_adds_and_takes_away(stack: Stack) -> None:
    stack.start(stack.service("a"), stack.service("b"))
    before = stack.pids()
    after = _reload(stack, stack.service("c"), stack.service("a"))
    assert after["a"] == before["a"]
    assert set(after) == {"a", "c"}
    assert not before["b"].alive()


def test_unreadable_services_change_nothing(stack: Stack) -> None:
    stack.start(stack.service("a"))
    before, keeper = stack.pids(), stack.watcher("supervisor")
    (stack.folder / "services.json").write_text("[{")
    assert keeper is not None
    keeper.send(signal.SIGHUP)
    until(lambda: "services.json cannot be read, nothing changes" in stack.log.read_text(), "it is told")
    assert (stack.pids(), stack.watcher("supervisor")) == (before, keeper)


TRAPPED = "trap 'echo {name} >> \"$OUT/order\"; exit 0' {signal}; while :; do sleep 0.05; done"


def test_stop_in_reverse_order_leaves_nothing(stack: Stack) -> None:
    stack.start(
        stack.service("a", TRAPPED.format(name="a", signal="INT"), stop_signal="SIGINT"),
        stack.service("b", TRAPPED.format(name="b", signal="TERM")),
        stack.service("c", TRAPPED.format(name="c", signal="TERM")),
    )
    running = stack.pids()
    time.sleep(0.3)
    stack.stop()
    assert (stack.folder / "order").read_text().split() == ["c", "b", "a"]
    assert [identity for identity in stack.seen if identity.alive()] == []
    assert len(running) == 3
    assert sorted(path.name for path in stack.folder.glob("*.pid")) == []
    assert stack.status() == {}


def test_stop_waits_for_a_service_to_finish(stack: Stack) -> None:
    script = "trap 'sleep 1; echo finished > \"$OUT/order\"; exit 0' TERM; while :; do sleep 0.05; done"
    stack.start(stack.service("a", script))
    time.sleep(0.3)
    stack.stop()
    assert (stack.folder / "order").read_text() == "finished\n"


def test_a_pause_lasts_from_the_gateways_very_end_to_its_being_ready(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the gateway writes last comes before what the pause is for."""
    monkeypatch.setattr(probe, "gateway", lambda *_: probe.Health(True, ""))
    monkeypatch.setattr(Watch, "_key_seen_to", lambda *_: True)
    last = "trap 'sleep 1; echo finished > \"$OUT/order\"; exit 0' TERM; while :; do sleep 0.05; done"
    stack.start(stack.service("engine"), stack.service("gateway", last))
    layout = Layout.from_environ({"STATE_DIR": str(stack.folder.parent)})
    before = stack.pids()
    time.sleep(0.3)
    with pause.gateway(layout, SimpleNamespace(name="native"), Silent()):
        assert (stack.folder / "order").read_text() == "finished\n"
        assert not before["gateway"].alive()
    after = stack.pids()
    assert after["gateway"] != before["gateway"]
    assert after["engine"] == before["engine"]


def test_service_that_does_not_stop_is_killed(stack: Stack) -> None:
    stack.start(stack.service("deaf", "trap '' TERM; while :; do sleep 0.05; done", stop_seconds=0.5))
    time.sleep(0.3)
    started = time.monotonic()
    stack.stop()
    assert 0.5 <= time.monotonic() - started < 5
    assert [identity for identity in stack.seen if identity.alive()] == []
    assert "deaf did not end within 0.5 s; killing it" in stack.log.read_text()


def test_starts_again_after_a_stop(stack: Stack) -> None:
    stack.start(stack.service("a"))
    before = stack.pids()
    stack.stop()
    stack.start(stack.service("a"))
    assert stack.pids()["a"] != before["a"]


def test_stopped_supervisor_is_not_brought_back(stack: Stack) -> None:
    stack.start(stack.service("a"))
    stack.stop()
    time.sleep(1)
    assert (stack.watcher("supervisor"), stack.watcher("guard"), stack.pids()) == (None, None, {})


def test_log_keeps_its_newest_half(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeper, "LOG_LIMIT", 1000)
    path = tmp_path / "log"
    path.write_bytes(b"a" * 800 + b"b" * 400)
    keeper._trim_log(path)
    assert path.read_bytes() == b"a" * 100 + b"b" * 400
    keeper._trim_log(path)
    assert path.stat().st_size == 500
    keeper._trim_log(tmp_path / "gone")


@pytest.mark.parametrize(
    ("code", "text"), [(None, "exit status unknown"), (0, "exit status 0"), (3, "exit status 3"), (-9, "killed by SIGKILL")]
)
def test_end_is_described(code: int | None, text: str) -> None:
    assert keeper._describe(code) == text


def test_supervisor_loads_nothing_that_it_does_not_need() -> None:
    argv = [sys.executable, "-c", "import stack.runtime.supervisor, sys; print('pydantic' in sys.modules)"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=30, env=dict(os.environ))
    assert (done.returncode, done.stdout) == (0, "False\n"), done.stderr


def test_an_environment_that_changes_restarts_nothing(stack: Stack) -> None:
    stack.start(stack.service("a"))
    before = stack.pids()
    other = stack.service("a")
    assert _reload(stack, replace(other, env={**other.env, "MORE": "1"})) == before


@pytest.mark.parametrize("same_boot", [True, False], ids=["number-given-to-another", "before-a-reboot"])
def test_strangers_that_got_a_service_s_number_are_left_alone(stack: Stack, same_boot: bool) -> None:
    process = subprocess.Popen(["sleep", "300"], start_new_session=True)
    stranger = Identity.of(process.pid)
    assert stranger is not None
    service = stack.service("a")
    record = {"pid": stranger.pid, "start": stranger.start - same_boot, "since": 0.0, "restarts": 0, "last_exit": ""}
    boot = supervisor.boot_id() if same_boot else "another boot"
    saved = {"boot": boot, "services": {"a": {**record, "digest": service.digest}}}
    (stack.folder / "status.json").write_text(json.dumps(saved))
    try:
        stack.write(service)
        supervisor.start(stack.folder, stack.log, dict(os.environ))
        until(lambda: stack.status().get("a", {}).get("pid", stranger.pid) != stranger.pid, "a runs, as another process")
        assert stranger.alive()
        stack.seen.discard(stranger)
    finally:
        process.kill()
        process.wait()


def test_an_older_version_found_running_is_asked_to_end(stack: Stack) -> None:
    stack.start(stack.service("a", TRAPPED.format(name="a", signal="TERM")))
    old, guard = stack.pids()["a"], stack.watcher("guard")
    assert guard is not None
    guard.send(signal.SIGSTOP)
    try:
        stack.kill(stack.watcher("supervisor"))
        stack.write(stack.service("a"))
    finally:
        guard.send(signal.SIGCONT)
    until(lambda: stack.pids().get("a", old) != old, "the new version runs")
    assert (stack.folder / "order").read_text() == "a\n"
    assert not old.alive()

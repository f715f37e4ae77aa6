"""The stack's containers, from what `docker inspect` says of them."""

from __future__ import annotations

import copy
import json
import subprocess
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from stack.errors import RunError
from stack.runtime import containers, engine_log, probe
from stack.runtime.containers import CHAT_CONTAINER, CONTAINERS, Container
from stack.runtime.probe import Health
from stack.runtime.watch import Part

# As Docker Engine 20.10 answers, without what nobody here reads.
RUNNING: dict[str, Any] = {
    "Name": "/vllm-container",
    "RestartCount": 0,
    "Image": "sha256:20cc4a7c4b3c",
    "State": {
        "Status": "running",
        "Running": True,
        "Paused": False,
        "Restarting": False,
        "OOMKilled": False,
        "Dead": False,
        "Pid": 7130,
        "ExitCode": 0,
        "Error": "",
        "StartedAt": "2026-11-24T11:50:28.05454894Z",
        "FinishedAt": "0001-01-01T00:00:00Z",
        "Health": {"Status": "starting", "FailingStreak": 0, "Log": []},
    },
    "HostConfig": {"PortBindings": {"8000/tcp": [{"HostIp": "127.0.0.1", "HostPort": "54217"}]}},
    "Config": {"Image": "vllm-multi-model/vllm-node:local", "Env": ["MODEL=m", "STACK_DIGEST=92f8", "A=b=c", "EMPTY="]},
}
STATES: dict[str, dict[str, Any]] = {
    # A container that Docker starts again counts as running there.
    "restarting": {"Status": "restarting", "Running": True, "Restarting": True, "Pid": 0, "ExitCode": 1},
    "killed": {"Status": "restarting", "Running": True, "Restarting": True, "Pid": 0, "ExitCode": 137, "OOMKilled": True},
    "exited": {"Status": "exited", "Running": False, "Pid": 0, "ExitCode": 2},
    "created": {"Status": "created", "Running": False, "Pid": 0, "StartedAt": "0001-01-01T00:00:00Z"},
    "unstartable": {"Status": "exited", "Running": False, "Pid": 0, "ExitCode": 128, "Error": "port is already allocated"},
}


def recorded(part: str, state: dict[str, Any] | None = None, restarts: int = 0) -> dict[str, Any]:
    """An entry of `docker container inspect`."""
    raw = copy.deepcopy(RUNNING)
    raw["Name"] = f"/{ {**CONTAINERS, 'chat': CHAT_CONTAINER}[part][1] }"
    raw["RestartCount"] = restarts
    raw["State"] |= state or {}
    return raw


class Docker:
    """Answers in Docker's place, and remembers what it was asked."""

    def __init__(self) -> None:
        self.there: list[dict[str, Any]] = []
        self.files: set[str] = set()
        self.log = b""
        self.phase = ""
        self.events = ""
        self.asked: list[list[str]] = []

    def run(self, argv: list[str], **_: Any) -> subprocess.CompletedProcess[Any]:
        """Instead of subprocess.run."""
        self.asked.append(argv)
        if argv[:3] == ["docker", "container", "inspect"]:
            missing = set(argv[3:]) - {entry["Name"].lstrip("/") for entry in self.there}
            said = "WARNING: Error loading config file: /root/.docker/config.json: permission denied\n"
            said += "".join(f"Error response from daemon: No such container: {name}\n" for name in missing)
            return subprocess.CompletedProcess(argv, bool(missing), json.dumps(self.there), said)
        if argv[:2] == ["docker", "events"]:
            return subprocess.CompletedProcess(argv, 0, self.events)
        if argv[:2] == ["docker", "exec"] and argv[3] == "cat":
            return subprocess.CompletedProcess(argv, not self.phase, self.phase)
        if argv[:2] == ["docker", "exec"]:
            return subprocess.CompletedProcess(argv, argv[-1] not in self.files)
        if argv[:2] == ["docker", "logs"]:
            return subprocess.CompletedProcess(argv, 0, self.log)
        raise AssertionError(argv)


@pytest.fixture
def docker(monkeypatch: pytest.MonkeyPatch) -> Docker:
    """No container is there, and nothing answers."""
    made = Docker()
    monkeypatch.setattr(subprocess, "run", made.run)
    monkeypatch.setattr(probe, "engine", lambda port, key: Health(False, "does not answer yet", answers=False))
    monkeypatch.setattr(probe, "gateway", lambda host, port: Health(False, "does not answer yet"))
    return made


def the(part: str) -> Part:
    """The state of one part."""
    (found,) = [one for one in containers.parts(Path("/nowhere")) if one.name == part]
    return found


def test_nothing_is_there(docker: Docker) -> None:
    assert containers.parts(Path("/nowhere")) == [
        Part("database", "stopped", "not started"),
        Part("engine", "stopped", "not started"),
        Part("gateway", "stopped", "not started"),
    ]
    assert docker.asked == [["docker", "container", "inspect", "litellm_db", "vllm-container", "litellm", "litellm_chat"]]


NO_ENGINE = "Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?\n"


@pytest.mark.parametrize("ask", [containers.inspect, containers.metrics, lambda: containers.parts(Path("/nowhere"))])
def test_containers_that_docker_does_not_tell_of_are_not_gone(
    monkeypatch: pytest.MonkeyPatch, ask: Callable[[], Any]
) -> None:
    """An engine that cannot be asked is not one without containers."""
    monkeypatch.setattr(subprocess, "run", lambda argv, **_: subprocess.CompletedProcess(argv, 1, "[]\n", NO_ENGINE))
    with pytest.raises(RunError, match="Cannot connect to the Docker daemon"):
        ask()


@pytest.mark.parametrize(
    ("ends", "why"),
    [
        (subprocess.CompletedProcess([], 0, "28.0.1\n", "WARNING: something\n"), ""),
        (subprocess.CompletedProcess([], 1, "", NO_ENGINE), NO_ENGINE.strip()),
        (
            subprocess.CompletedProcess([], 1, "", "docker: unknown command\n\nRun 'docker --help'\n"),
            "docker: unknown command",
        ),
        (subprocess.CompletedProcess([], 3, "", ""), "docker ended with 3"),
        (subprocess.TimeoutExpired("docker", 60), "no answer within 60 s"),
        (FileNotFoundError(2, "No such file or directory"), "docker: No such file or directory"),
    ],
)
def test_why_docker_does_not_work(monkeypatch: pytest.MonkeyPatch, ends: Any, why: str) -> None:
    def run(argv: list[str], **_: Any) -> Any:
        if isinstance(ends, Exception):
            raise ends
        return ends

    monkeypatch.setattr(subprocess, "run", run)
    assert containers.why_no_engine() == why


def test_what_is_left_out_is_not_asked(docker: Docker) -> None:
    docker.there = [recorded("gateway"), recorded("engine")]
    assert [part.name for part in containers.parts(Path("/nowhere"), without={"engine", "gateway"})] == ["database"]
    assert len(docker.asked) == 1


def test_others_that_are_there(docker: Docker) -> None:
    docker.there = [recorded("gateway"), recorded("database")]
    assert {part: container.name for part, container in containers.inspect().items()} == {
        "database": "litellm_db",
        "gateway": "litellm",
    }


def test_the_chat_page_counts_only_where_it_is(docker: Docker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "chat", lambda host, port: Health(True, f"{host}:{port}"))
    docker.there = [recorded("chat")]
    docker.there[0]["HostConfig"] = {"PortBindings": {"8080/tcp": [{"HostIp": "127.0.0.1", "HostPort": "3000"}]}}
    page = the("chat")
    assert (page.state, page.detail) == ("ready", "127.0.0.1:3000")
    assert [part.name for part in containers.parts(Path("/nowhere"), without=CONTAINERS)] == ["chat"]


def test_what_shows_metrics(docker: Docker) -> None:
    """Apart from the others: it is no part of the API."""
    assert containers.metrics() == {}
    assert containers.unready_metrics(["prometheus", "grafana"]) == ["prometheus", "grafana"]
    for name, status, port in (
        ("prometheus", "healthy", "9090"),
        ("grafana", "starting", "3001"),
        ("node_exporter", "", ""),
    ):
        entry = recorded("gateway", {"Health": {"Status": status}})
        bindings = {"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": port}]} if port else None
        docker.there.append({**entry, "Name": f"/litellm_{name}", "HostConfig": {"PortBindings": bindings}})
    assert set(containers.metrics()) == {"prometheus", "grafana", "node-exporter"}
    assert containers.unready_metrics(["prometheus", "grafana", "gpu-exporter"]) == ["grafana", "gpu-exporter"]
    assert containers.metrics_ports() == {9090, 3001}


@pytest.mark.parametrize("part", CONTAINERS)
@pytest.mark.parametrize(
    ("state", "restarts", "shown", "detail"),
    [
        ("restarting", 3, "restarting", "exited with 1"),
        ("killed", 1, "restarting", "killed: out of memory"),
        ("exited", 2, "stopped", "exited with 2"),
        ("created", 0, "starting", "being created"),
        ("unstartable", 0, "stopped", "port is already allocated"),
    ],
)
def test_what_does_not_run(docker: Docker, part: str, state: str, restarts: int, shown: str, detail: str) -> None:
    docker.there = [recorded(part, STATES[state], restarts)]
    assert the(part) == Part(part, shown, detail, pid=0, seconds=0.0, restarts=restarts)
    assert len(docker.asked) == 1


@pytest.mark.parametrize(
    ("state", "running"), [("", True), ("restarting", False), ("killed", False), ("exited", False), ("created", False)]
)
def test_running(state: str, running: bool) -> None:
    assert Container("engine", "c", recorded("engine", STATES.get(state))).running is running


@pytest.mark.parametrize(
    ("health", "state", "detail"),
    [
        ({"Status": "healthy"}, "ready", "takes connections"),
        ({"Status": "starting"}, "starting", "does not answer yet"),
        ({"Status": "unhealthy"}, "unresponsive", "does not answer"),
        ({}, "starting", "does not answer yet"),
    ],
)
def test_database_is_as_its_healthcheck_says(docker: Docker, health: dict[str, str], state: str, detail: str) -> None:
    docker.there = [recorded("database", {"Health": health})]
    found = the("database")
    assert (found.state, found.detail, found.pid) == (state, detail, 7130)


def test_engine_is_asked_itself_with_its_key(docker: Docker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def engine(port: int, key: str) -> Health:
        asked.append((port, key))
        return Health(True, "serves vllm_agent, m")

    monkeypatch.setattr(probe, "engine", engine)
    (tmp_path / "VLLM_API_KEY").write_text("sk-engine\n")
    started = (datetime.now(UTC) - timedelta(seconds=90)).isoformat()[:19] + ".123456789Z"
    docker.there = [recorded("engine", {"StartedAt": started}, restarts=1)]
    part = next(part for part in containers.parts(tmp_path) if part.name == "engine")
    assert asked == [(54217, "sk-engine")]
    assert (part.state, part.detail, part.pid, part.restarts) == ("ready", "serves vllm_agent, m", 7130, 1)
    assert 89 <= part.seconds <= 100


def test_engine_that_loads_says_what_it_does(docker: Docker, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[str]] = []

    def phase_of(lines: list[str]) -> str:
        seen.append(lines)
        return "loading the model" if lines else ""

    monkeypatch.setattr(engine_log, "phase_of", phase_of)
    docker.there = [recorded("engine")]
    assert (the("engine").state, the("engine").detail) == ("starting", "does not answer yet")
    docker.log = b"one\ntwo \xff\n"
    assert (the("engine").state, the("engine").detail) == ("starting", "loading the model")
    assert seen[-1] == ["one", "two \ufffd"]
    # Of this start only: an earlier one may have been ready.
    assert docker.asked[-2] == [
        *("docker", "logs", "--since", "2026-11-24T11:50:28.05454894Z", "--tail", "400", "vllm-container"),
    ]


def test_engine_that_drains_is_not_ready(docker: Docker, monkeypatch: pytest.MonkeyPatch) -> None:
    """Although it still lists its models."""
    monkeypatch.setattr(probe, "engine", lambda port, key: Health(True, "serves vllm_agent, m"))
    docker.there = [recorded("engine")]
    docker.phase = f"{time.time():.1f} stopping\n"
    assert the("engine").state == "draining"
    assert docker.asked[-1] == ["docker", "exec", "vllm-container", "cat", "/app/generated_configs/phase"]
    docker.phase = "1700000000.0 stopping\n"
    assert the("engine").state == "ready", "an earlier one said that"


def test_how_it_ended_before(docker: Docker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probe, "engine", lambda port, key: Health(True, "serves vllm_agent, m"))
    docker.there = [recorded("engine", restarts=1)]
    docker.events = '{"Action": "die", "Actor": {"Attributes": {"exitCode": "137"}}}\n'
    assert the("engine").last_end == "exited with 137"
    docker.events = '{"Action": "oom", "Actor": {}}\n' + docker.events
    assert the("engine").last_end == "killed: out of memory"
    docker.there = [recorded("engine")]
    assert the("engine").last_end == ""


def gateway_bound_to(address: str) -> dict[str, Any]:
    raw = recorded("gateway")
    raw["HostConfig"]["PortBindings"] = {"4000/tcp": [{"HostIp": address, "HostPort": "4100"}]}
    return raw


def test_gateway_is_ready_once_the_local_key_has_been_seen_to(docker: Docker, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def gateway(host: str, port: int) -> Health:
        asked.append((host, port))
        return Health(True, "answers")

    monkeypatch.setattr(probe, "gateway", gateway)
    docker.there = [gateway_bound_to("127.0.0.2")]
    assert (the("gateway").state, the("gateway").detail) == ("starting", "the local key is not ready yet")
    assert docker.asked[-1] == ["docker", "exec", "litellm", "test", "-e", "/tmp/local_key"]
    docker.files.add("/tmp/local_key")
    assert (the("gateway").state, the("gateway").detail) == ("ready", "answers")
    assert set(asked) == {("127.0.0.2", 4100)}


def test_gateway_that_does_not_answer_is_asked_no_more(docker: Docker) -> None:
    docker.there = [gateway_bound_to("127.0.0.1")]
    assert the("gateway").state == "starting"
    assert [argv[1] for argv in docker.asked] == ["container"]


@pytest.mark.parametrize(
    ("bindings", "address"),
    [
        ({"4000/tcp": [{"HostIp": "127.0.0.1", "HostPort": "4100"}]}, ("127.0.0.1", 4100)),
        ({"4000/tcp": [{"HostIp": "::1", "HostPort": "4000"}]}, ("::1", 4000)),
        ({"4000/tcp": [{"HostIp": "", "HostPort": "4000"}]}, ("0.0.0.0", 4000)),
        ({"8000/tcp": [{"HostIp": "127.0.0.1", "HostPort": "8000"}]}, ("0.0.0.0", 0)),
        ({"4000/tcp": None}, ("0.0.0.0", 0)),
        ({"4000/tcp": [{"HostIp": "127.0.0.1", "HostPort": ""}]}, ("127.0.0.1", 0)),
        ({}, ("0.0.0.0", 0)),
        (None, ("0.0.0.0", 0)),
    ],
)
def test_address(bindings: Any, address: tuple[str, int]) -> None:
    assert Container("gateway", "litellm", {"HostConfig": {"PortBindings": bindings}}).address(4000) == address


def test_environment_is_what_it_was_created_with() -> None:
    container = Container("engine", "c", recorded("engine"))
    assert container.env == {"MODEL": "m", "STACK_DIGEST": "92f8", "A": "b=c", "EMPTY": ""}


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ({"ExitCode": 137, "OOMKilled": True}, "killed: out of memory"),
        ({"ExitCode": 137}, "exited with 137"),
        ({"ExitCode": 127, "Error": "no such file"}, "no such file"),
    ],
)
def test_last_exit(state: dict[str, Any], words: str) -> None:
    assert Container("engine", "c", recorded("engine", state)).last_exit() == words


@pytest.mark.parametrize(
    ("ask", "options"),
    [
        (lambda container: container.log(), []),
        (lambda container: container.log(lines=7), ["--tail", "7"]),
        (lambda container: container.log("2026-01-01T00:00:00Z"), ["--since", "2026-01-01T00:00:00Z"]),
    ],
)
def test_log(docker: Docker, ask: Callable[[Container], str], options: list[str]) -> None:
    docker.log = b"said\n"
    assert ask(Container("engine", "vllm-container", recorded("engine"))) == "said\n"
    assert docker.asked == [["docker", "logs", *options, "vllm-container"]]


@pytest.mark.parametrize("started", ["", "never", "2999-01-01T00:00:00.5Z"])
def test_age_is_never_negative_and_no_reason_to_fail(started: str) -> None:
    assert containers._age(started) == 0.0

"""The stack's containers as Docker sees them, and whether each does its work."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Collection, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from stack import engine_phase
from stack.errors import Problem, RunError
from stack.runtime import condition, engine_log, probe, secret_files
from stack.runtime import metrics as metrics_parts
from stack.runtime.condition import RESTARTING, STARTING, STOPPED
from stack.runtime.watch import CHAT, KEY_MISSING, Part

# Part -> (service, container); in starting order.
CONTAINERS = {
    "database": ("db", "litellm_db"),
    "engine": ("vllm-node", "vllm-container"),
    "gateway": ("litellm", "litellm"),
}
# Beside them, if it is asked for.
CHAT_CONTAINER = ("chat", "litellm_chat")
_ALL = {**CONTAINERS, CHAT: CHAT_CONTAINER}
# Seconds after which an engine that says nothing is taken not to answer.
PATIENCE = 60
# Written by local_key.py in the gateway's container.
LOCAL_KEY_STATE = "/tmp/local_key"  # noqa: S108 - in the container, where it is a tmpfs of its own


@dataclass(frozen=True)
class Container:
    """One container, from `docker inspect`.

    Attributes:
        part: database, engine, gateway or chat.
        name: the container's.
        raw: what Docker says.
    """

    part: str
    name: str
    raw: dict[str, Any]

    @property
    def running(self) -> bool:
        """Whether its process runs."""
        return bool(self.raw["State"]["Running"]) and not self.raw["State"]["Restarting"]

    @property
    def env(self) -> dict[str, str]:
        """What it was created with."""
        return dict(entry.partition("=")[::2] for entry in self.raw["Config"]["Env"])

    @property
    def started(self) -> str:
        """When its process started, RFC 3339."""
        return str(self.raw["State"]["StartedAt"])

    def address(self, port: int) -> tuple[str, int]:
        """Where a port of it is published on this machine; port 0 if nowhere."""
        bindings = (self.raw["HostConfig"].get("PortBindings") or {}).get(f"{port}/tcp") or [{}]
        return bindings[0].get("HostIp") or "0.0.0.0", int(bindings[0].get("HostPort") or 0)

    def last_exit(self) -> str:
        """How it last ended, in words."""
        state = self.raw["State"]
        if state["OOMKilled"]:
            return "killed: out of memory"
        return state["Error"] or f"exited with {state['ExitCode']}"

    def log(self, since: str = "", lines: int = 0) -> str:
        """What it printed.

        Args:
            since: RFC 3339 time, or empty for all.
            lines: only the last ones; 0 for all.
        """
        argv = ["docker", "logs", *(["--since", since] if since else []), *(["--tail", str(lines)] if lines else [])]
        done = subprocess.run([*argv, self.name], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        return done.stdout.decode("utf-8", "replace")


def last_end(name: str, since: float) -> tuple[int | None, bool]:
    """How a container last ended, even if it runs again.

    Args:
        name: the container.
        since: ends before this time (seconds of the epoch) do not count.

    Returns:
        The exit status of its first process (None: it did not end), and whether the kernel killed for want of memory.
    """
    argv = ["docker", "events", "--since", str(int(since)), "--until", str(int(time.time())), "--format", "{{json .}}"]
    argv += ["--filter", f"container={name}", "--filter", "event=die", "--filter", "event=oom"]
    status: int | None = None
    memory = False
    for line in subprocess.run(argv, capture_output=True, text=True).stdout.splitlines():
        event = json.loads(line)
        if event["Action"] == "oom":
            memory = True
        else:
            status = int(event["Actor"]["Attributes"].get("exitCode", 0))
    return status, memory


def why_docker_does_not(*arguments: str) -> str:
    """Why `docker ARGUMENTS` does not work, in Docker's own words; empty if it does."""
    try:
        done = subprocess.run(["docker", *arguments], capture_output=True, text=True, timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        return f"no answer within {PATIENCE} s"
    except OSError as error:
        return f"docker: {error.strerror}"
    said = done.stderr.strip().partition("\n")[0]
    return "" if done.returncode == 0 else said or f"docker ended with {done.returncode}"


def why_no_engine() -> str:
    """Why no Docker engine answers; empty if one does. `docker info` would say so too, but starts programs for it."""
    return why_docker_does_not("version", "--format", "{{.Server.Version}}")


def inspect() -> dict[str, Container]:
    """The containers there are, by part.

    Raises:
        RunError: Docker does not say which there are.
    """
    found = _inspected([name for _, name in _ALL.values()])
    return {part: Container(part, name, found[name]) for part, (_, name) in _ALL.items() if name in found}


def metrics() -> dict[str, dict[str, Any]]:
    """The containers of Prometheus, Grafana and the exporters that there are: service -> what Docker says.

    Raises:
        RunError: Docker does not say which there are.
    """
    names = {container: service for service, container in metrics_parts.CONTAINERS.items()}
    return {names[name]: entry for name, entry in _inspected(names).items()}


def _inspected(names: Iterable[str]) -> dict[str, dict[str, Any]]:
    """What Docker says of those of these containers that there are, by name."""
    done = subprocess.run(["docker", "container", "inspect", *names], capture_output=True, text=True)
    said = [line for line in done.stderr.splitlines() if not line.startswith("WARNING")]
    other = [line for line in said if "no such container" not in line.lower()]
    if done.returncode != 0 and other:
        raise RunError(Problem("docker", f"does not say which containers there are: {other[-1]}", "see: docker ps"))
    return {entry["Name"].lstrip("/"): entry for entry in json.loads(done.stdout)}


def metrics_ports() -> set[int]:
    """The ports that those publish."""
    bindings = [(entry["HostConfig"].get("PortBindings") or {}).values() for entry in metrics().values()]
    return {int(one["HostPort"]) for ports in bindings for port in ports for one in port}


def unready_metrics(wanted: Collection[str]) -> list[str]:
    """Those of the wanted services that are not healthy."""
    there = metrics()
    health = {name: entry["State"].get("Health", {}).get("Status", "") for name, entry in there.items()}
    return [name for name in wanted if health.get(name) != "healthy"]


def parts(secrets: Path, without: Collection[str] = ()) -> list[Part]:
    """The state of each container, but for those to leave out; of the chat page's only if there is one."""
    there = inspect()
    names = (*CONTAINERS, CHAT) if CHAT in there else CONTAINERS
    wanted = [name for name in names if name not in without]
    with ThreadPoolExecutor(max(len(wanted), 1)) as pool:  # each may take seconds to be given up
        return list(pool.map(lambda name: _part(name, there.get(name), secrets), wanted))


def _part(name: str, container: Container | None, secrets: Path) -> Part:
    if container is None:
        return Part(name, STOPPED, "not started")
    state, restarts = container.raw["State"], int(container.raw["RestartCount"])
    if state["Status"] == "restarting":
        return Part(name, RESTARTING, container.last_exit(), restarts=restarts)
    if not container.running:
        created = state["Status"] == "created"
        detail = "being created" if created else container.last_exit()
        return Part(name, STARTING if created else STOPPED, detail, restarts=restarts)
    health, seconds = _health(container, secrets), _age(container.started)
    if name == "engine":
        doing = "" if health.ready else engine_log.phase_of(container.log(container.started, 400).splitlines()) or ""
        now = time.time()
        named, detail = condition.engine(health, _phase(container.name), doing, now - seconds, now)
    else:
        silent = name == "gateway" and not health.answers
        stopping = silent and engine_log.server_stops(container.log(container.started, 400).splitlines())
        named, detail = condition.other(health, seconds, stopping)
    last_end = _last_end(container.name, restarts)
    return Part(name, named, detail, state["Pid"], seconds, restarts, last_end)


def _phase(container: str) -> engine_phase.Phase:
    """What the engine wrote last, from the volume it shares with the gateway."""
    argv = ["docker", "exec", container, "cat", f"/app/generated_configs/{engine_phase.FILE}"]
    return engine_phase.parse(subprocess.run(argv, capture_output=True, text=True).stdout)


def _last_end(container: str, restarts: int) -> str:
    """How a container that runs ended before, in words; Docker forgets after a while."""
    if not restarts:
        return ""
    status, memory = last_end(container, 0)
    return "killed: out of memory" if memory else f"exited with {status}" if status is not None else ""


def _health(container: Container, secrets: Path) -> probe.Health:
    if container.part == "database":
        named = container.raw["State"].get("Health", {}).get("Status")
        healthy, answers = named == "healthy", named != "unhealthy"
        return probe.Health(healthy, "takes connections" if healthy else "does not answer yet", answers=answers)
    if container.part == "engine":
        return probe.engine(container.address(8000)[1], secret_files.read(secrets, "VLLM_API_KEY"))
    if container.part == CHAT:
        return probe.chat(*container.address(8080))
    health = probe.gateway(*container.address(4000))
    if health.ready and not _has_file(container.name, LOCAL_KEY_STATE):
        return probe.Health(False, KEY_MISSING)
    return health


def _has_file(container: str, path: str) -> bool:
    return subprocess.run(["docker", "exec", container, "test", "-e", path], capture_output=True).returncode == 0


def _age(started: str) -> float:
    """Seconds since Docker's time stamp, which has nanoseconds."""
    try:
        return max((datetime.now(UTC) - datetime.fromisoformat(started[:19] + "+00:00")).total_seconds(), 0)
    except ValueError:
        return 0.0

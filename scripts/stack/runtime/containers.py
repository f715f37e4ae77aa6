"""The stack's containers as Docker sees them, and whether each does its work."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from stack.runtime import engine_log, probe, secret_files
from stack.runtime.watch import CHAT, Part

# Part -> (service, container); in starting order.
CONTAINERS = {
    "database": ("db", "litellm_db"),
    "engine": ("vllm-node", "vllm-container"),
    "gateway": ("litellm", "litellm"),
}
# Beside them, if it is asked for.
CHAT_CONTAINER = ("chat", "litellm_chat")
_ALL = {**CONTAINERS, CHAT: CHAT_CONTAINER}
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


def inspect() -> dict[str, Container]:
    """The containers there are, by part."""
    names = [name for _, name in _ALL.values()]
    done = subprocess.run(["docker", "container", "inspect", *names], capture_output=True, text=True)
    try:
        found = {entry["Name"].lstrip("/"): entry for entry in json.loads(done.stdout)}
    except ValueError:
        found = {}
    return {part: Container(part, name, found[name]) for part, (_, name) in _ALL.items() if name in found}


def parts(secrets: Path, without: Collection[str] = ()) -> list[Part]:
    """The state of each container, but for those to leave out; of the chat page's only if there is one."""
    there = inspect()
    names = (*CONTAINERS, CHAT) if CHAT in there else CONTAINERS
    return [_part(name, there.get(name), secrets) for name in names if name not in without]


def _part(name: str, container: Container | None, secrets: Path) -> Part:
    if container is None:
        return Part(name, "stopped", "not started")
    state, restarts = container.raw["State"], int(container.raw["RestartCount"])
    if state["Status"] == "restarting":
        return Part(name, "restarting", container.last_exit(), restarts=restarts)
    if not container.running:
        detail = "being created" if state["Status"] == "created" else container.last_exit()
        return Part(name, "starting" if state["Status"] == "created" else "stopped", detail, restarts=restarts)
    health = _health(container, secrets)
    detail = health.detail
    if name == "engine" and not health.ready:
        detail = engine_log.phase_of(container.log(container.started, 400).splitlines()) or detail
    return Part(name, "ready" if health.ready else "starting", detail, state["Pid"], _age(container.started), restarts)


def _health(container: Container, secrets: Path) -> probe.Health:
    if container.part == "database":
        healthy = container.raw["State"].get("Health", {}).get("Status") == "healthy"
        return probe.Health(healthy, "takes connections" if healthy else "does not answer yet")
    if container.part == "engine":
        return probe.engine(container.address(8000)[1], secret_files.read(secrets, "VLLM_API_KEY"))
    if container.part == CHAT:
        return probe.chat(*container.address(8080))
    health = probe.gateway(*container.address(4000))
    if health.ready and not _has_file(container.name, LOCAL_KEY_STATE):
        return probe.Health(False, "the local key is not ready yet")
    return health


def _has_file(container: str, path: str) -> bool:
    return subprocess.run(["docker", "exec", container, "test", "-e", path], capture_output=True).returncode == 0


def _age(started: str) -> float:
    """Seconds since Docker's time stamp, which has nanoseconds."""
    try:
        return max((datetime.now(UTC) - datetime.fromisoformat(started[:19] + "+00:00")).total_seconds(), 0)
    except ValueError:
        return 0.0

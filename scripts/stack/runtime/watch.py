"""What runs, and how it is: reads what the supervisor wrote and asks the parts themselves."""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from stack import engine_phase
from stack.runtime import condition, engine_log, probe, secret_files
from stack.runtime.condition import RESTARTING, STARTING, STOPPED
from stack.runtime.layout import Layout
from stack.runtime.processes import Identity
from stack.runtime.spec import Service, read_services
from stack.runtime.supervisor import boot_id

# What the API is made of; ready means these.
PARTS = ("database", "engine", "gateway")
# Beside them, if it is asked for: nothing waits for it, and nothing ends with it.
CHAT = "chat"
ENGINE = "engine"
# Details of parts that `up` tells apart from others.
EARLIER = "the earlier one is being stopped"
KEY_MISSING = "the local key is not ready yet"


@dataclass(frozen=True)
class Part:
    """The state of one service, as `status` shows it.

    Attributes:
        name: database, engine, gateway or chat.
        state: ready, starting, draining, failing, unresponsive, degraded, restarting or stopped; see condition.py.
        detail: what it does, or why it is not ready.
        pid: its process, or 0.
        seconds: how long it has been running.
        restarts: how often it has ended by itself.
        last_end: how the one before it ended, if it runs.
    """

    name: str
    state: str
    detail: str
    pid: int = 0
    seconds: float = 0.0
    restarts: int = 0
    last_end: str = ""


def all_ready(parts: Collection[Part]) -> bool:
    """Whether the API is there; the chat page does not count."""
    needed = [part for part in parts if part.name != CHAT]
    return bool(needed) and all(part.state == "ready" for part in needed)


class Watch:
    """A look at the native stack of one state folder."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout

    def supervisor(self) -> Identity | None:
        """The supervisor, if it runs."""
        return Identity.read(self.layout.run / "supervisor.pid")

    def guard(self) -> Identity | None:
        """The supervisor's guard, if it runs."""
        return Identity.read(self.layout.run / "guard.pid")

    def watchers(self) -> dict[str, bool]:
        """Whether supervisor and guard run."""
        return {"supervisor": self.supervisor() is not None, "guard": self.guard() is not None}

    def anything_runs(self) -> bool:
        """Whether a watcher or a service runs."""
        return any(self.watchers().values()) or any(identity for identity in map(_identity, self._records().values()))

    def services(self) -> dict[str, Service]:
        """What was last started, by name."""
        try:
            return {service.name: service for service in read_services(self.layout.run / "services.json")}
        except (OSError, ValueError, TypeError):
            return {}

    def running_model(self) -> str:
        """The name of the model that was last started, or empty."""
        engine = self.services().get("engine")
        return engine.env.get("MODEL", "") if engine else ""

    def own_ports(self) -> set[int]:
        """Ports on which our own stack listens, if it runs; on whichever address, as that may be about to change."""
        return {service.port for service in self.services().values()} if self.anything_runs() else set()

    def runs_as(self, name: str, digests: Mapping[str, str]) -> bool:
        """Whether the supervisor has already got to the service as it was last specified."""
        return str(self._records().get(name, {}).get("digest")) == digests.get(name)

    def has(self, name: str) -> bool:
        """Whether the supervisor still has a service: also one that is no longer wanted, until it has ended."""
        return name in self._records()

    def parts(self, digests: Mapping[str, str] | None = None, without: Collection[str] = ()) -> list[Part]:
        """The state of each service; of the chat page only if it was asked for.

        Args:
            digests: the specifications that count; an older version that still runs is not ready.
            without: services to leave out.
        """
        records, services = self._records(), self.services()
        names = [name for name in ((*PARTS, CHAT) if CHAT in services else PARTS) if name not in without]

        def look(name: str) -> Part:
            record = records.get(name)
            if record is None or name not in services:
                return Part(name, STOPPED, "not started")
            if digests and record["digest"] != digests[name]:
                # Without a digest it has never run: the supervisor has not got to it yet.
                return Part(name, STARTING, EARLIER if record["digest"] else "is being started")
            return self._part(services[name], record)

        with ThreadPoolExecutor(max(len(names), 1)) as pool:  # each may take seconds to be given up
            return list(pool.map(look, names))

    def _part(self, service: Service, record: Mapping[str, Any]) -> Part:
        name, restarts, last_end = service.name, record["restarts"], record["last_exit"]
        identity = _identity(record)
        if identity is None:
            watched = self.supervisor() or self.guard()
            detail = last_end or ("is being started" if watched else "stopped")
            return Part(name, RESTARTING if watched else STOPPED, detail, restarts=restarts)
        now = time.time()
        seconds = max(now - record["since"], 0)
        health = self._health(service, identity)
        if name == "engine":
            doing = "" if health.ready else engine_log.phase(self.layout.log(name))
            phase = engine_phase.read(self.layout.generated)
            state, detail = condition.engine(health, phase, doing, record["since"], now)
        else:
            stopping = name == "gateway" and not health.answers and engine_log.stops(self.layout.log(name))
            state, detail = condition.other(health, seconds, stopping)
        return Part(name, state, detail, identity.pid, seconds, restarts, last_end)

    def _health(self, service: Service, identity: Identity) -> probe.Health:
        if service.name == "database":
            return probe.database(service.port)
        if service.name == "engine":
            return probe.engine(service.port, secret_files.read(self.layout.secrets, "VLLM_API_KEY"))
        if service.name == CHAT:
            return probe.chat(service.host, service.port)
        health = probe.gateway(service.host, service.port)
        if health.ready and not self._key_seen_to(identity):
            return probe.Health(False, KEY_MISSING)
        return health

    def _key_seen_to(self, gateway: Identity) -> bool:
        """Whether the local key has been made, changed or removed since the gateway started; see local_key.py."""
        try:
            return self.layout.local_key.read_text().strip() == str(gateway.pid)
        except OSError:
            return False

    def _records(self) -> dict[str, Any]:
        try:
            saved: dict[str, Any] = json.loads((self.layout.run / "status.json").read_text("utf-8"))
            return dict(saved["services"]) if saved["boot"] == boot_id() else {}
        except (OSError, ValueError, KeyError, TypeError):
            return {}


def _identity(record: Mapping[str, Any]) -> Identity | None:
    identity = Identity(record["pid"], record["start"])
    return identity if identity.pid and identity.alive() else None

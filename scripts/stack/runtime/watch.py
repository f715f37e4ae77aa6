"""What runs, and how it is: reads what the supervisor wrote and asks the parts themselves."""

from __future__ import annotations

import json
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from stack.runtime import engine_log, probe, secret_files
from stack.runtime.layout import Layout
from stack.runtime.processes import Identity
from stack.runtime.spec import Service, read_services
from stack.runtime.supervisor import boot_id

# What the API is made of; ready means these.
PARTS = ("database", "engine", "gateway")
# Beside them, if it is asked for: nothing waits for it, and nothing ends with it.
CHAT = "chat"


@dataclass(frozen=True)
class Part:
    """The state of one service, as `status` shows it.

    Attributes:
        name: database, engine, gateway or chat.
        state: ready, starting, restarting or stopped.
        detail: what it does, or why it is not ready.
        pid: its process, or 0.
        seconds: how long it has been running.
        restarts: how often it has ended by itself.
    """

    name: str
    state: str
    detail: str
    pid: int = 0
    seconds: float = 0.0
    restarts: int = 0


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

    def parts(self, digests: Mapping[str, str] | None = None, without: Collection[str] = ()) -> list[Part]:
        """The state of each service; of the chat page only if it was asked for.

        Args:
            digests: the specifications that count; an older version that still runs is not ready.
            without: services to leave out.
        """
        records, services = self._records(), self.services()
        parts = []
        for name in (*PARTS, CHAT) if CHAT in services else PARTS:
            record = records.get(name)
            if name in without:
                continue
            if record is None or name not in services:
                parts.append(Part(name, "stopped", "not started"))
            elif digests and record["digest"] != digests[name]:
                parts.append(Part(name, "starting", "the earlier one is being stopped"))
            else:
                parts.append(self._part(services[name], record))
        return parts

    def _part(self, service: Service, record: Mapping[str, Any]) -> Part:
        name, restarts = service.name, record["restarts"]
        identity = _identity(record)
        if identity is None:
            state = "restarting" if self.supervisor() else "stopped"
            detail = record["last_exit"] or ("is being started" if state == "restarting" else "stopped")
            return Part(name, state, detail, restarts=restarts)
        seconds = max(time.time() - record["since"], 0)
        health = self._health(service, identity)
        if health.ready:
            return Part(name, "ready", health.detail, identity.pid, seconds, restarts)
        doing = engine_log.phase(self.layout.log(name)) if name == "engine" else ""
        return Part(name, "starting", doing or health.detail, identity.pid, seconds, restarts)

    def _health(self, service: Service, identity: Identity) -> probe.Health:
        if service.name == "database":
            return probe.database(service.port)
        if service.name == "engine":
            return probe.engine(service.port, secret_files.read(self.layout.secrets, "VLLM_API_KEY"))
        if service.name == CHAT:
            return probe.chat(service.host, service.port)
        health = probe.gateway(service.host, service.port)
        if health.ready and not self._key_seen_to(identity):
            return probe.Health(False, "the local key is not ready yet")
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

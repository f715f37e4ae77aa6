"""What the supervisor is told: services as data, in a file. No secret is in it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from stack.files import write_atomic


@dataclass(frozen=True)
class Service:
    """A process to keep running.

    Attributes:
        name: engine, gateway, database or chat.
        argv: what to run.
        env: its whole environment.
        version: what of the environment matters: the service is started anew when this changes, not whenever the
            caller's PATH is another one.
        log: the file its output goes to.
        stop_signal: name of the signal that asks it to end.
        stop_seconds: how long it may take to end before it is killed.
        host: address it listens on.
        port: its port.
        loads: it takes long until it listens and ignores its stop signal until then (vLLM while it loads a model); as
            it has no requests to finish either, it is then killed after a moment.
    """

    name: str
    argv: tuple[str, ...]
    env: dict[str, str] = field(hash=False)
    log: str
    version: str = ""
    stop_signal: str = "SIGTERM"
    stop_seconds: float = 30.0
    host: str = "127.0.0.1"
    port: int = 0
    loads: bool = False

    @property
    def digest(self) -> str:
        """Changes when the service has to be started anew."""
        fields = {key: value for key, value in asdict(self).items() if key != "env"}
        return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()[:16]


def write_services(path: Path, services: list[Service]) -> None:
    """Services in starting order; they are stopped in the opposite one."""
    write_atomic(path, json.dumps([asdict(service) for service in services], indent=2) + "\n", mode=0o600)


def read_services(path: Path) -> list[Service]:
    """Read what `write_services` wrote."""
    return [Service(**{**entry, "argv": tuple(entry["argv"])}) for entry in json.loads(path.read_text("utf-8"))]

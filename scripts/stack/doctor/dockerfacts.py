"""What Docker says about itself, asked once for all checks, and which runtime follows from it."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Any

from stack.doctor.knobs import knobs
from stack.doctor.probe import Probe, first_line, version
from stack.runtime.processes import Identity

PROJECT = "vllm-multi-model"


@dataclass(frozen=True)
class Facts:
    """Docker, as far as it answers.

    Attributes:
        client: path of the program; empty if there is none.
        info: `docker info`; empty if no engine answers.
        problem: why none answers.
        cure: what to do about that.
        compose: version of the plugin; empty if there is none.
    """

    client: str = ""
    info: dict[str, Any] = field(default_factory=dict)
    problem: str = ""
    cure: str = ""
    compose: str = ""

    @property
    def engine(self) -> str:
        """The engine's version; empty if it does not answer."""
        return str(self.info.get("ServerVersion", ""))

    @property
    def answers(self) -> bool:
        """Whether the docker runtime can use it."""
        return bool(self.engine and self.compose)


def facts(probe: Probe) -> Facts:
    """Ask Docker; only the first call does."""
    return probe.once("docker", lambda: _ask(probe))


def runtime(probe: Probe) -> str:
    """The runtime `up` would choose: docker or native."""
    wanted = str(knobs(probe)["RUNTIME"])
    if wanted in ("docker", "native"):
        return wanted
    return "docker" if facts(probe).answers else "native"


def containers(probe: Probe) -> list[dict[str, Any]]:
    """All containers, running or not, as `docker ps` shows them; none if no engine answers."""
    return probe.once("containers", lambda: _containers(probe))


def labels(container: dict[str, Any]) -> dict[str, str]:
    """A container's labels. `docker ps` writes them with commas, which a value may have, too."""
    found: dict[str, str] = {}
    for word in re.split(r",(?=[\w./-]+=)", str(container.get("Labels", ""))):
        key, equals, value = word.partition("=")
        if equals:
            found[key] = value
    return found


def stack_runs(probe: Probe) -> bool:
    """Whether this stack runs, in either runtime."""
    if native_runs(probe):
        return True
    return any(
        labels(one).get("com.docker.compose.project") == PROJECT and one.get("State") == "running"
        for one in containers(probe)
    )


def native_runs(probe: Probe) -> bool:
    """Whether a supervisor or a service of this stack's runs."""
    from stack.runtime.watch import Watch

    return probe.once("native", lambda: Watch(probe.layout).anything_runs())


def supervisor(probe: Probe) -> Identity | None:
    """The native runtime's supervisor, if it runs."""
    return Identity.read(probe.layout.run / "supervisor.pid")


def _ask(probe: Probe) -> Facts:
    client = probe.which("docker")
    if not client:
        return Facts(problem="docker is not installed", cure="install it: https://docs.docker.com/engine/install/")
    ran = probe.run("docker", "info", "--format", "{{json .}}")
    info = _object(ran.out)
    if ran.late:
        return Facts(client, problem=f"the Docker engine {ran.err}", cure="restart it: sudo systemctl restart docker")
    if info.get("ServerVersion"):
        return Facts(client, info, compose=_compose(probe))
    said = " ".join([ran.err, *map(str, info.get("ServerErrors") or []), ran.out if not info else ""])
    if "host" in info and "buildahVersion" in str(info):
        cure = "install Docker's own engine, or use RUNTIME=native"
        return Facts(client, problem="`docker` is Podman here, which the stack was not made for", cure=cure)
    problem, cure = _why(probe, said)
    return Facts(client, problem=problem, cure=cure, compose=_compose(probe))


def _why(probe: Probe, said: str) -> tuple[str, str]:
    """What a client's complaint means, and its cure."""
    low = said.lower()
    host = probe.environ.get("DOCKER_HOST", "")
    if "permission denied" in low:
        cure = (
            "sudo usermod -aG docker $USER, then log in again (or: newgrp docker); members of that group are as good as root"
        )
        return "this user may not use the Docker engine's socket", cure
    if host and ("cannot connect" in low or "error during connect" in low or "dial" in low or "lookup" in low):
        return f"no Docker engine answers at DOCKER_HOST={host}", "unset DOCKER_HOST, or start the engine it names"
    if "cannot connect" in low or "is the docker daemon running" in low or "error during connect" in low:
        return "the Docker engine is not running", "start it: sudo systemctl enable --now docker"
    if "api version" in low or "is too old" in low or "is too new" in low:
        return f"client and engine do not understand each other: {first_line(said)}", "install both in the same version"
    if "context" in low:
        return f"Docker's context does not work: {first_line(said)}", "docker context use default"
    return f"`docker info` failed: {first_line(said) or 'without a word'}", "see: docker info"


def _compose(probe: Probe) -> str:
    ran = probe.run("docker", "compose", "version", "--short")
    text = ran.out.splitlines()[-1] if ran.status == 0 and ran.out else ""
    return text if version(text) else ""


def _containers(probe: Probe) -> list[dict[str, Any]]:
    if not facts(probe).engine:
        return []
    ran = probe.run("docker", "ps", "--all", "--no-trunc", "--format", "{{json .}}")
    return [one for one in map(_object, ran.out.splitlines()) if one]


def _object(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}

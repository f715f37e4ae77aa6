"""The Docker engine, Compose, and the NVIDIA container toolkit."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from stack.doctor import dockerfacts, gpufacts
from stack.doctor.dockerfacts import PROJECT, facts, labels
from stack.doctor.finding import Check, Finding, fault, graded, none, ok, warning
from stack.doctor.knobs import knobs
from stack.doctor.probe import Probe, read, version
from stack.runtime.layout import REPOSITORY

OLDEST_ENGINE = (20, 10)  # what the tests of this project run on
OLDEST_COMPOSE = (2, 24)  # docs/docker-runtime.md
START_INTERVAL = (25,)  # the first engine that knows it in a health check
ROUTED_UNTIL = (28,)  # before, published loopback ports can be reached by the containers' own addresses
NAMES = frozenset({"litellm_db", "vllm-container", "litellm", "litellm_chat", "litellm_setup"})
SERVICES = frozenset({"db", "vllm-node", "litellm", "chat", "setup"})
TOOLKIT = (
    "install the NVIDIA Container Toolkit, then: sudo nvidia-ctk runtime configure --runtime=docker && "
    "sudo systemctl restart docker"
)


def engine(probe: Probe) -> Iterable[Finding]:
    """Client and engine."""
    wanted = knobs(probe)["RUNTIME"]
    if wanted == "native":
        yield none("RUNTIME=native does without")
        return
    found, needed = facts(probe), wanted == "docker"
    other = "" if needed else "; the native runtime is used"
    if not found.client and not needed:
        yield none(f"{found.problem}{other}")
    elif not found.engine:
        yield graded(needed, f"{found.problem}{other}", found.cure)
    else:
        yield from _engine(probe, found)


def _engine(probe: Probe, found: dockerfacts.Facts) -> Iterable[Finding]:
    number = version(found.engine)
    host = probe.environ.get("DOCKER_HOST", "")
    if host and not host.startswith("unix://"):
        what = f"DOCKER_HOST={host} is another machine's engine: it would look for models/ and secrets/ there"
        yield warning(what, "unset DOCKER_HOST and run ./runMe.sh on that machine")
    compose_file = read(REPOSITORY / "docker-compose.yml")
    if number < OLDEST_ENGINE:
        yield fault(f"version {found.engine}; the stack needs 20.10 or newer", "upgrade the Docker engine")
    elif number < START_INTERVAL and re.search(r"^\s*start_interval:", compose_file, re.MULTILINE):
        what = f"version {found.engine} does not know start_interval, which docker-compose.yml uses in a health check"
        yield fault(what, "upgrade the Docker engine to 25 or newer")
    elif number < ROUTED_UNTIL:
        what = (
            f"version {found.engine} lets hosts of the same network reach published ports by the containers' own addresses"
        )
        yield warning(what, "upgrade to 28 or newer, or add the rule of docs/docker-runtime.md, Older engines")
    else:
        yield ok(f"version {found.engine}, {found.client}")


def compose(probe: Probe) -> Iterable[Finding]:
    """The Compose plugin, version 2."""
    wanted = knobs(probe)["RUNTIME"]
    found, needed = facts(probe), wanted == "docker"
    cure = "install it: Debian, Ubuntu: apt install docker-compose-v2 (Docker's own packages: docker-compose-plugin)"
    if wanted == "native" or not found.client:
        yield none("without Docker")
    elif not found.compose:
        old = "; docker-compose, its version 1, will not do" if probe.which("docker-compose") else ""
        other = "" if needed else "; the native runtime is used"
        yield graded(needed, f"docker has no compose plugin{old}{other}", cure)
    elif version(found.compose) < OLDEST_COMPOSE:
        yield fault(f"version {found.compose}; docker-compose.yml needs 2.24 or newer", cure)
    else:
        yield ok(f"version {found.compose}")


def toolkit(probe: Probe) -> Iterable[Finding]:
    """How containers get at the GPU."""
    if dockerfacts.runtime(probe) != "docker" or not facts(probe).engine:
        yield none("no containers are used")
        return
    if not gpufacts.facts(probe).there:
        yield none("there is no NVIDIA GPU")
        return
    info = facts(probe).info
    devices = [str(one.get("ID", "")) for one in info.get("DiscoveredDevices") or [] if isinstance(one, dict)]
    cdi = [one for one in devices if one.startswith("nvidia.com/gpu")]
    hook = probe.which("nvidia-container-runtime-hook") or probe.which("nvidia-container-runtime")
    if "nvidia" in (info.get("Runtimes") or {}):
        yield ok("docker knows the runtime nvidia")
    elif cdi:
        yield ok(f"docker knows {len(cdi)} GPU devices by CDI")
    elif hook:
        yield ok(f"{hook}; docker has no runtime of that name and does not need one")
    else:
        yield fault("docker knows no runtime nvidia and no GPU by CDI: containers cannot get at the GPU", TOOLKIT)


def stale(probe: Probe) -> Iterable[Finding]:
    """Containers in the way: strangers with our names, other clones', earlier versions'."""
    if dockerfacts.runtime(probe) != "docker" or not facts(probe).engine:
        yield none("no containers are used")
        return
    there = dockerfacts.containers(probe)
    ours = [one for one in there if labels(one).get("com.docker.compose.project") == PROJECT]
    found = [finding for one in there for finding in _container(one)]
    yield from found or [ok(f"{len(ours)} of this stack" if ours else "none of this stack, none in its way")]


def _container(one: dict[str, Any]) -> Iterable[Finding]:
    name, said = str(one.get("Names", "")), labels(one)
    folder = said.get("com.docker.compose.project.working_dir", "")
    if said.get("com.docker.compose.project") != PROJECT:
        if name in NAMES:
            what = f"a container that is not this stack's has the name {name}"
            yield fault(what, f"rename it (docker rename {name} other-name) or remove it: docker rm -f {name}")
    elif said.get("com.docker.compose.service", "") not in SERVICES:
        yield warning(f"{name} is left from an earlier version of this stack", f"remove it: docker rm -f {name}")
    elif folder and folder != str(REPOSITORY):
        yield fault(
            f"{name} belongs to the stack of {folder}", "stop it there first: ./runMe.sh down, or docker compose down"
        )


CHECKS = (
    Check("Docker engine", engine),
    Check("Docker Compose", compose),
    Check("NVIDIA container toolkit", toolkit),
    Check("containers", stale),
)

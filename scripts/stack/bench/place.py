"""Where `vllm bench serve` runs, and what it reaches from there: natively this machine, else the engine's container."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from stack import generate, hub_cache
from stack.bench.report import DIRECT, GATEWAY
from stack.errors import Problem, RunError
from stack.plan import Plan
from stack.runtime import probe
from stack.runtime.containers import CONTAINERS
from stack.runtime.layout import Layout
from stack.runtime.spec import read_services


@dataclass(frozen=True)
class Place:
    """Where the tool runs.

    Attributes:
        prefix: what comes before a command there; empty natively.
        vllm: the program.
        urls: side -> address as seen from there, without a path.
        folder: where it may write.
        env: environment of what is run here.
        served: the engine's environment assignments, by name.
        engine_argv: the engine's argument list.
    """

    prefix: tuple[str, ...]
    vllm: str
    urls: Mapping[str, str]
    folder: str
    env: Mapping[str, str]
    served: Mapping[str, str]
    engine_argv: tuple[str, ...]

    @property
    def hub(self) -> str:
        """The hub's cache, as seen from there."""
        return str(hub_cache.folder(Path(self.served.get("HF_HOME", "")), {} if self.prefix else self.env))


def place_of(layout: Layout, runtime: str, plan: Plan, folder: str) -> Place:
    """The place for a runtime.

    Args:
        layout: folders.
        runtime: docker or native.
        plan: what runs.
        folder: a temporary folder on this machine.

    Raises:
        RunError: the container does not answer.
    """
    return _docker() if runtime == "docker" else _native(layout, plan, folder)


def _native(layout: Layout, plan: Plan, folder: str) -> Place:
    """The engine's environment on this machine."""
    (engine,) = [one for one in read_services(layout.run / "services.json") if one.name == "engine"]
    served, argv = split((layout.generated / generate.ARGV).read_text("utf-8", "surrogateescape"))
    program = Path(engine.env["PATH"].partition(":")[0]) / "vllm"
    urls = here(plan)
    env = {**engine.env, **served, **no_proxy(engine.env, urls)}
    return Place((), str(program), urls, folder, env, served, argv)


def _docker() -> Place:
    """The engine's container. Only /tmp can be written to there."""
    name = CONTAINERS["engine"][1]
    urls = {DIRECT: "http://127.0.0.1:8000", GATEWAY: f"http://{CONTAINERS['gateway'][1]}:4000"}
    user = output(["docker", "exec", name, "stat", "-c", "%u:%g", "/proc/1"]).strip()
    served, argv = split(output(["docker", "exec", name, "cat", f"/app/generated_configs/{generate.ARGV}"]))
    return Place(container_prefix(name, user, urls), "vllm", urls, "/tmp", dict(os.environ), served, argv)  # noqa: S108


def container_prefix(name: str, user: str, urls: Mapping[str, str]) -> tuple[str, ...]:
    """`docker exec` as the engine's user. The key is named only; its value comes from docker's own environment."""
    told = {**no_proxy({}, urls), "HOME": "/tmp", "USER": "vllm", "LOGNAME": "vllm"}  # noqa: S108
    assigned = [word for key, value in told.items() for word in ("--env", f"{key}={value}")]
    return ("docker", "exec", "--user", user, "--env", "OPENAI_API_KEY", *assigned, name)


def split(text: str) -> tuple[dict[str, str], tuple[str, ...]]:
    """engine.argv to environment assignments and argument list."""
    words = text.rstrip("\0").split("\0")
    begin = next((index for index, word in enumerate(words) if "=" not in word), len(words))
    return dict(word.partition("=")[::2] for word in words[:begin]), tuple(words[begin:])


def here(plan: Plan) -> dict[str, str]:
    """Side -> address as seen from this machine; engines are published on loopback."""
    resolved = plan.resolved
    host = probe.reachable(resolved["BIND_ADDRESS"])
    return {
        DIRECT: f"http://{probe.reachable(resolved['ENGINE_HOST'])}:{resolved['ENGINE_PORT']}",
        GATEWAY: f"http://{host}:{resolved['LITELLM_PORT']}",
    }


def litellm_version(layout: Layout, runtime: str) -> str:
    """The installed LiteLLM's version; empty if it cannot be told. Not every answer of the gateway names it."""
    if runtime == "docker":
        argv = ["docker", "exec", CONTAINERS["gateway"][1], "python3"]
    else:
        paths = [one.env["PATH"] for one in read_services(layout.run / "services.json") if one.name == "gateway"]
        argv = [f"{path.partition(':')[0]}/python" for path in paths]
    try:
        return output([*argv, "-c", "import importlib.metadata as m; print(m.version('litellm'))"]).strip()
    except (RunError, OSError):
        return ""


def no_proxy(env: Mapping[str, str], urls: Mapping[str, str]) -> dict[str, str]:
    """What has to be added to an environment so that no proxy stands before the two sides."""
    hosts = {urlsplit(url).hostname or "" for url in urls.values()}
    given = env.get("no_proxy") or env.get("NO_PROXY") or ""
    text = ",".join([*filter(None, [given]), *sorted(hosts)])
    return {"NO_PROXY": text, "no_proxy": text}


def output(argv: list[str], env: Mapping[str, str] | None = None) -> str:
    """What a command prints.

    Raises:
        RunError: it failed.
    """
    done = subprocess.run(argv, env=env, capture_output=True)
    if done.returncode != 0:
        raise RunError(Problem(argv[0], f"exited with {done.returncode}", done.stderr.decode("utf-8", "replace")[-400:]))
    return done.stdout.decode("utf-8", "surrogateescape")

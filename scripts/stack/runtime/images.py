"""The engine's image: what is done in it beside serving, which ones run, and which names may go."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from stack import engine
from stack.releases import Release
from stack.runtime import compose, weights
from stack.runtime.containers import Container

_REPOSITORY = compose.NODE_IMAGE.partition(":")[0]


def converter(env: Mapping[str, str]) -> weights.Converter:
    """Converts weights with the tools of the engine's image."""

    def convert(source: Path, target: Path) -> list[str]:
        work, script = target.parent, weights.CONVERTER
        mounts = ["-v", f"{work}:{work}", "-v", f"{script}:{script}:ro"]
        return [*_python(env, *mounts, "--user", f"{os.getuid()}:{os.getgid()}"), str(script), str(source), str(target)]

    return convert


def checker(env: Mapping[str, str], gpu: bool) -> list[str]:
    """The command that asks the image's vLLM about commands; see engine.ask."""
    options = ["-i", "-e", "VLLM_LOGGING_LEVEL", "-v", f"{engine.CHECKER}:/check.py:ro"]
    options += ["--gpus", "all"] if gpu else []  # without one vLLM's GPU build cannot even parse
    return [*_python(env, *options), "/check.py"]


def _python(env: Mapping[str, str], *options: str) -> list[str]:
    image = env.get("VLLM_NODE_IMAGE", compose.NODE_IMAGE)
    argv = ["docker", "run", "--rm", "--network", "none", "-e", "HOME=/tmp"]
    return [*argv, *options, "--entrypoint", "python3", image]


def running(there: Mapping[str, Container]) -> dict[str, dict[str, str]]:
    """The images that run. The engine's gets a name of its own, so that a later build does not take it away."""
    found = {}
    for part, container in there.items():
        name, image = container.raw["Config"]["Image"], container.raw["Image"]
        if part == "engine":
            name = f"{_REPOSITORY}:{image.removeprefix('sha256:')[:12]}"
            subprocess.run(["docker", "tag", image, name], capture_output=True)
        digests = output(["docker", "image", "inspect", "--format", '{{join .RepoDigests " "}}', image])
        found[part] = {"name": name, "id": image, "digests": digests}
    return found


def to_start(release: Release) -> Release:
    """A release as it is to be started: by the usual name of its engine's image, if that is still the same image.

    Compose makes a container anew for another name of the same image.
    """
    own = release.images.get("engine", {})
    if not own or own.get("id") != identity(compose.NODE_IMAGE):
        return release
    return replace(release, images={**release.images, "engine": {**own, "name": compose.NODE_IMAGE}})


def forget(releases: Iterable[Release]) -> None:
    """Take the names away from engine images that no release could come back with: they are large."""
    kept = {one.images.get("engine", {}).get("name", "") for one in releases}
    names = output(["docker", "image", "ls", _REPOSITORY, "--format", "{{.Repository}}:{{.Tag}}"]).split()
    for name in set(names) - kept - {compose.NODE_IMAGE}:
        subprocess.run(["docker", "image", "rm", name], capture_output=True)  # one that a container uses stays


def output(argv: list[str], env: Mapping[str, str] | None = None) -> str:
    """What a command prints, without the line break at its end."""
    return subprocess.run(argv, capture_output=True, text=True, env=None if env is None else dict(env)).stdout.strip()


def identity(*names: str) -> str:
    """What Docker knows images by, a line each; empty if there are none."""
    return output(["docker", "image", "inspect", "--format", "{{.Id}}", *names])

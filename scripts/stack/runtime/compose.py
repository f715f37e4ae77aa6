"""How Docker Compose is called: which files, and every variable that docker-compose.yml reads. Starts nothing itself."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from stack import gateway
from stack.plan import Plan
from stack.releases import Release
from stack.runtime import chat, secret_files
from stack.runtime.layout import REPOSITORY, Layout
from stack.runtime.services import ENGINE_SECRETS, GATEWAY_SECRETS, GRACE
from stack.settings import METRICS_PORTS, is_setting

# What the engine's container decides itself: the same as STACK_SET in docker-compose.yml; a test compares.
INSIDE = (
    "ENGINE_HOST=0.0.0.0",
    "ENGINE_PORT=8000",
    "ENGINE_URL=http://vllm-node:8000",
    "HF_HOME=/home/vllm/.cache/huggingface",
)
WEIGHTS = "/app/weights"
METRICS_IMAGES = (
    "PROMETHEUS_IMAGE",
    "GRAFANA_IMAGE",
    "POSTGRES_EXPORTER_IMAGE",
    "NODE_EXPORTER_IMAGE",
    "GPU_EXPORTER_IMAGE",
)
# What the Dockerfile makes; the default of VLLM_NODE_IMAGE.
NODE_IMAGE = "vllm-multi-model/vllm-node:local"
OVERRIDE = "docker-compose.override.yml"


def argv(root: Path, gpu: bool, *arguments: str) -> list[str]:
    """`docker compose` with the files for a machine with or without a GPU; the user's own override comes last.

    Args:
        root: the folder of vars.env, where the override may be.
        gpu: whether the machine has one.
        arguments: of Compose.
    """
    files = ["docker-compose.yml", *([] if gpu else ["docker-compose.cpu.yml"])]
    paths = [REPOSITORY / name for name in files] + ([root / OVERRIDE] if (root / OVERRIDE).exists() else [])
    names = [word for path in paths for word in ("-f", str(path))]
    # Everything is given by the environment; an .env file of somebody's would come in between.
    return ["docker", "compose", "--project-directory", str(REPOSITORY), "--env-file", os.devnull, *names, *arguments]


# What a profile's service is started with and everything is stopped with; `docker compose up` alone leaves it out.
CHAT_PROFILE = ("--profile", "chat")
METRICS_PROFILE = ("--profile", "metrics")
PROFILES = (*CHAT_PROFILE, *METRICS_PROFILE)


def environment(environ: Mapping[str, str], values: Mapping[str, str]) -> dict[str, str]:
    """The environment of `docker compose`: the caller's without settings, and the variables the files read.

    Settings are left out because the engine's container takes some over by name, and would be made anew whenever one
    changed that concerns the gateway only; what was accepted reaches it through the release.
    """
    return {**{key: value for key, value in environ.items() if not is_setting(key)}, **values}


def variables(plan: Plan, inside: Plan, release: Release, layout: Layout, weights: Path | None) -> dict[str, str]:
    """What docker-compose.yml reads.

    Args:
        plan: as seen from this machine.
        inside: as seen from the engine's container; its digests are those the entries compare.
        release: what is started.
        layout: folders.
        weights: a local folder with the model's weights, or None.
    """
    resolved = plan.resolved
    image = plan.served.fragment.image or resolved["VLLM_IMAGE"]
    found = {
        "MODEL": plan.served.name,
        "ENGINE_DIGEST": inside.engine_digest,
        "GATEWAY_DIGEST": inside.gateway_digest,
        "RELEASES_DIR": str(layout.releases),
        "SECRETS_DIR": str(layout.secrets),
        "HF_HOME": os.path.expanduser(resolved["HF_HOME"]),
        "VLLM_IMAGE": image,
        "VLLM_CPU_IMAGE": resolved["VLLM_CPU_IMAGE"],
        "LITELLM_IMAGE": resolved["LITELLM_IMAGE"],
        "POSTGRES_IMAGE": resolved["POSTGRES_IMAGE"],
        "BIND_ADDRESS": _bracketed(resolved["BIND_ADDRESS"]),
        "LITELLM_PORT": str(resolved["LITELLM_PORT"]),
        "ENGINE_PORT": str(resolved["ENGINE_PORT"]),
        "ENGINE_USER": resolved["ENGINE_USER"],
        "ENGINE_MEMORY_LIMIT": resolved["ENGINE_MEMORY_LIMIT"],
        "ENGINE_START_TIMEOUT": str(resolved["ENGINE_START_TIMEOUT"]),
        "ENGINE_SECRETS": secret_files.version(layout.secrets, ENGINE_SECRETS),
        "GATEWAY_SECRETS": secret_files.version(layout.secrets, GATEWAY_SECRETS),
        "LOCAL_KEY": str(resolved["LOCAL_KEY"]).lower(),
        "KEY_LIMIT": str(gateway.key_limit(resolved)),
        "MAX_REQUEST_SIZE": str(resolved["MAX_REQUEST_SIZE"]),
        "DRAIN_SECONDS": str(plan.drain_seconds),
        "STOP_GRACE_PERIOD": f"{plan.drain_seconds + 2 * GRACE}s",
        "CHAT_IMAGE": resolved["CHAT_IMAGE"],
        "CHAT_ADDRESS": _bracketed(resolved["CHAT_ADDRESS"]),
        "CHAT_PORT": str(resolved["CHAT_PORT"]),
        "CHAT_LOGIN": str(resolved["CHAT_LOGIN"]).lower(),
        "GATEWAY_METRICS": str(resolved["METRICS"]).lower(),
        **{name: str(resolved[name]) for name in (*METRICS_PORTS, *METRICS_IMAGES)},
        "CHAT_SECRETS": secret_files.version(layout.secrets, chat.SECRETS),
    }
    # Empty counts as not given, so that what the caller has by these names does not either.
    found |= {"WEIGHTS_DIR": str(weights or ""), "STACK_MODEL_PATH": WEIGHTS if weights else ""}
    if weights:
        found["HF_HUB_OFFLINE"] = "1"
    # Only a release that comes back has its own image; otherwise the Dockerfile decides.
    image_name = release.images.get("engine", {}).get("name", "") if release.repeats else ""
    return found | ({"VLLM_NODE_IMAGE": image_name} if image_name else {})


def images(values: Mapping[str, str]) -> list[str]:
    """The images that the containers are made from."""
    return [values.get("VLLM_NODE_IMAGE", NODE_IMAGE), values["LITELLM_IMAGE"], values["POSTGRES_IMAGE"]]


def _bracketed(address: str) -> str:
    return f"[{address}]" if ":" in address else address

"""The native runtime's three services as data: a plan and folders in, specifications out. Starts and writes nothing."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from stack import gateway
from stack.plan import Plan
from stack.releases import CURRENT
from stack.runtime import postgres, secret_files
from stack.runtime.layout import Layout
from stack.runtime.spec import Service

# What a service may take over from the caller's environment: never everything, as secrets may be among it.
_INHERITED = """
    PATH HOME USER LOGNAME LANG LANGUAGE TZ TMPDIR LD_LIBRARY_PATH XDG_CACHE_HOME XDG_RUNTIME_DIR
    http_proxy https_proxy no_proxy HTTP_PROXY HTTPS_PROXY NO_PROXY
    SSL_CERT_FILE SSL_CERT_DIR REQUESTS_CA_BUNDLE CURL_CA_BUNDLE NODE_EXTRA_CA_CERTS
    HF_ENDPOINT HF_HUB_CACHE HF_HUB_OFFLINE TRANSFORMERS_OFFLINE FLASHINFER_WORKSPACE_BASE
"""
INHERITED = frozenset(_INHERITED.split())
# Whatever prefix they have.
SECRET_NAME = re.compile(r"(KEY|TOKEN|SECRET|PASSWORD|CREDENTIAL)")
# No settings, NCCL_* and VLLM_* included: those of the caller are in the release, and an earlier one has its own.
INHERITED_PREFIXES = ("LC_", "CUDA_", "NVIDIA_", "OMP_", "TRITON_", "TORCH", "GLOO_")
# Seconds beyond the engine's own drain time before something that stops is killed.
GRACE = 10


@dataclass(frozen=True)
class Environments:
    """Installed environments.

    Attributes:
        engine: vLLM.
        gateway: LiteLLM.
        database: PostgreSQL and Node.
    """

    engine: Path
    gateway: Path
    database: Path


def build(
    plan: Plan,
    layout: Layout,
    environments: Environments,
    environ: Mapping[str, str],
    model_path: Path | None,
    gateway_env: Mapping[str, str],
) -> list[Service]:
    """The services in starting order: database, gateway, engine. All three start at once; each waits for what it needs.

    Args:
        plan: what was decided.
        layout: folders.
        environments: where the programs are.
        environ: the caller's environment.
        model_path: local weights, or None.
        gateway_env: what the gateway's environment needs for its database client.
    """
    resolved = plan.resolved
    drain = plan.drain_seconds
    inherited = inherit(environ)
    common = {
        **inherited,
        "STACK_ROOT": str(layout.releases / CURRENT),
        "CONFIG_DIR": str(layout.generated),
        "SECRETS_DIR": str(layout.secrets),
        "STACK_PYTHON": sys.executable,
        "PYTHONUNBUFFERED": "1",
        "PYTHONSAFEPATH": "1",  # a folder someone stands in is no place for modules
        **{key: value for key, value in environ.items() if key in _SECRET_FILE_VARIABLES},
    }
    path = inherited.get("PATH", "/usr/bin:/bin")
    database = Service(
        name="database",
        argv=tuple(postgres.server_argv(environments.database, layout.postgres, resolved["POSTGRES_PORT"])),
        env={"PATH": path, "LANG": "C.UTF-8", "TZ": "UTC"},
        log=str(layout.log("database")),
        stop_signal="SIGINT",  # PostgreSQL's fast shutdown: it does not wait for clients to leave
        stop_seconds=60,
        port=resolved["POSTGRES_PORT"],
    )
    engine = Service(
        name="engine",
        argv=("bash", str(layout.scripts / "entrypoint.sh")),
        env={
            **common,
            "MODEL": plan.served.name,
            "STACK_DIGEST": plan.engine_digest,
            "PATH": f"{environments.engine / 'bin'}:{path}",
            "DO_NOT_TRACK": "1",  # not VLLM_NO_USAGE_STATS: what begins with VLLM_ counts as configuration
            **({"STACK_MODEL_PATH": str(model_path), "HF_HUB_OFFLINE": "1"} if model_path else {}),
        },
        log=str(layout.log("engine")),
        version=f"{plan.engine_digest} {environments.engine} {secret_files.version(layout.secrets, ENGINE_SECRETS)}",
        host=resolved["ENGINE_HOST"],
        loads=True,
        stop_seconds=drain + GRACE,
        port=resolved["ENGINE_PORT"],
    )
    told = {
        "LITELLM_HOST": resolved["BIND_ADDRESS"],
        "LITELLM_PORT": str(resolved["LITELLM_PORT"]),
        "DATABASE_HOST": "127.0.0.1",
        "DATABASE_PORT": str(resolved["POSTGRES_PORT"]),
        "LOCAL_KEY": str(resolved["LOCAL_KEY"]).lower(),
        "MAX_PARALLEL_REQUESTS": str(gateway.key_limit(resolved)),
        "MAX_REQUEST_SIZE": str(resolved["MAX_REQUEST_SIZE"]),
        "METRICS": str(resolved["METRICS"]).lower(),
        **LITELLM_ENV,
        "GRACEFUL_SHUTDOWN_TIMEOUT": str(drain),
    }
    proxy = Service(
        name="gateway",
        argv=("bash", str(layout.scripts / "litellm_entrypoint.sh")),
        env={
            **common,
            **gateway_env,
            "STACK_DIGEST": plan.gateway_digest,
            "PATH": f"{environments.gateway / 'bin'}:{path}",
            **told,
            "LOCAL_KEY_STATE": str(layout.local_key),
        },
        log=str(layout.log("gateway")),
        version=" ".join(
            [
                plan.gateway_digest,
                str(environments.gateway),
                secret_files.version(layout.secrets, GATEWAY_SECRETS),
                *(f"{key}={value}" for key, value in told.items()),
            ]
        ),
        host=resolved["BIND_ADDRESS"],
        port=resolved["LITELLM_PORT"],
        stop_seconds=drain + GRACE,
    )
    return [database, engine, proxy]


# The same in docker-compose.yml; a test compares.
LITELLM_ENV = {
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # no download of unpinned data at start
    "AIOHTTP_TTL_DNS_CACHE": "1",  # seconds; a container made anew has another address
    "PROXY_DB_LOOKUP_DEADLINE_SECONDS": "30",  # of a rush of requests the last wait longer for the first look at their key
    "LITELLM_MODE": "PRODUCTION",  # no .env file is read
    "MINIMUM_CUSTOM_KEY_LENGTH": "7",  # sk-FAKE is shorter than the 16 characters LiteLLM otherwise asks of a key
    "REPEATED_STREAMING_CHUNK_LIMIT": "10000",  # a model may repeat itself; 100 would cut its stream off
}


def inherit(environ: Mapping[str, str]) -> dict[str, str]:
    """The part of the caller's environment that services may see."""
    return {
        key: value
        for key, value in environ.items()
        if (key in INHERITED or key.startswith(INHERITED_PREFIXES)) and not SECRET_NAME.search(key)
    }


# What entrypoint.sh and litellm_entrypoint.sh load.
ENGINE_SECRETS = ("HF_TOKEN", "VLLM_API_KEY")
GATEWAY_SECRETS = (*(name for name in secret_files.GENERATED if name != "GRAFANA_ADMIN_PASSWORD"), "ANTHROPIC_AUTH_TOKEN")
_SECRET_FILE_VARIABLES = frozenset(f"{name}_FILE" for name in (*secret_files.GENERATED, *secret_files.USER_GIVEN))

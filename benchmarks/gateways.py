"""The two gateways: LiteLLM by its documentation, and this stack's, both in the gateway's environment with PostgreSQL."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg2

from benchmarks.processes import free_port, running
from stack import generate
from stack import plan as planning
from stack.local_key import ALIAS, LOCAL_KEY, Gateway
from stack.runtime import gateway_environment, install, postgres, probe, secret_files, services
from stack.runtime.layout import REPOSITORY, Layout
from stack.runtime.report import Report
from stack.runtime.spec import Service

MODEL = "benchmark"
_FRAGMENT = "command: vllm serve benchmark/model --max-model-len 131072\n"
_PLAIN = """model_list:
  - model_name: vllm_agent
    litellm_params:
      model: hosted_vllm/vllm_agent
      api_base: {url}/v1
      api_key: none
general_settings:
  master_key: os.environ/LITELLM_MASTER_KEY
  database_url: os.environ/DATABASE_URL
"""
# Tables of LiteLLM's: what was spent, whose key it was.
_RECORDED = """
SELECT count(*), coalesce(sum(prompt_tokens), 0), coalesce(sum(completion_tokens), 0)
FROM "LiteLLM_SpendLogs" JOIN "LiteLLM_VerificationToken" ON api_key = token
WHERE key_alias = %s AND coalesce(status, 'success') = 'success'
"""


@dataclass(frozen=True)
class Running:
    """A gateway that answers.

    Attributes:
        base: address without a path.
        key: a virtual key.
        version: LiteLLM's.
        recorded: requests, prompt tokens and completion tokens in the database.
    """

    base: str
    key: str
    version: str
    recorded: Callable[[], tuple[int, int, int]]


def package_version(environment: Path, name: str) -> str:
    """The version of an installed package, from the name of its metadata."""
    for folder in environment.glob(f"lib/python3.*/site-packages/{name}-*.dist-info"):
        return folder.name.removesuffix(".dist-info").rpartition("-")[2]
    return ""


def _plan(layout: Layout, environ: dict[str, str]) -> planning.Plan:
    """What the stack as shipped decides for a model of the benchmark's own; nobody's vars.local.env takes part."""
    (layout.root / "models").mkdir(parents=True, exist_ok=True)
    (layout.root / "models" / f"{MODEL}.yml").write_text(_FRAGMENT)
    for name in ("vars.env", planning.TEMPLATE):
        shutil.copy(REPOSITORY / name, layout.root / name)
    return planning.make(layout.root, {"MODEL": MODEL, "RUNTIME": "native", **environ}, [])


@contextlib.contextmanager
def _prepared(layout: Layout, report: Report, environ: dict[str, str]) -> Iterator[tuple[Service, Path, int]]:
    """A database that runs; the stack's gateway as a service, LiteLLM's environment, the database's port."""
    database = install.ensure(layout, "database", report)
    environment = gateway_environment.ensure(layout, database, report)
    port = free_port()
    made = _plan(layout, {**environ, "POSTGRES_PORT": str(port)})
    secret_files.ensure(layout.secrets)
    for folder in (layout.logs, layout.run, layout.generated):
        folder.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(layout.postgres, ignore_errors=True)
    postgres.initialise(database, layout.postgres, layout.secrets / "POSTGRES_PASSWORD")
    generate.write_all(made, layout.generated)
    environments = services.Environments(environment, environment, database)
    parts = services.build(made, layout, environments, os.environ, None, gateway_environment.variables(environment))
    server, gateway = (next(part for part in parts if part.name == name) for name in ("database", "gateway"))
    stop = getattr(signal, server.stop_signal)
    log = Path(server.log)
    with running("database", server.argv, log, lambda: probe.listens("127.0.0.1", port), env=server.env, stop_signal=stop):
        yield gateway, environment, port


def _recorded(layout: Layout, port: int, alias: str) -> tuple[int, int, int]:
    password = secret_files.read(layout.secrets, "POSTGRES_PASSWORD")
    connection: Any = psycopg2.connect(
        host="127.0.0.1", port=port, user=postgres.USER, password=password, dbname=postgres.DATABASE
    )
    try:
        with connection.cursor() as cursor:
            cursor.execute(_RECORDED, (alias,))
            requests, prompt, completion = cursor.fetchone()
            return int(requests), int(prompt), int(completion)
    finally:
        connection.close()


@contextlib.contextmanager
def ours(layout: Layout, report: Report, upstream: str, streams: int) -> Iterator[Running]:
    """This stack's gateway: its own generated configuration, entry script, database and local key."""
    port = free_port()
    environ = {"LITELLM_PORT": str(port), "ENGINE_URL": upstream, "MAX_PARALLEL_REQUESTS": str(2 * streams)}
    with _prepared(layout, report, environ) as (gateway, environment, database_port):
        layout.local_key.unlink(missing_ok=True)
        log = Path(gateway.log)
        with running("stack", gateway.argv, log, layout.local_key.exists, env=gateway.env):
            yield Running(
                f"http://127.0.0.1:{port}",
                LOCAL_KEY,
                package_version(environment, "litellm"),
                lambda: _recorded(layout, database_port, ALIAS),
            )


@contextlib.contextmanager
def plain(layout: Layout, report: Report, upstream: str) -> Iterator[Running]:
    """`litellm --config` with one hosted_vllm model, a master key, a database and a virtual key."""
    port = free_port()
    with _prepared(layout, report, {}) as (gateway, environment, database_port):
        config = layout.state / "plain.yaml"
        config.write_text(_PLAIN.format(url=upstream))
        password = secret_files.read(layout.secrets, "POSTGRES_PASSWORD")
        master = f"sk-{secrets.token_urlsafe(24)}"
        env = {
            # As the stack's, apart from what only its scripts read: packages, database client, LiteLLM's own switches.
            **{key: value for key, value in gateway.env.items() if key not in ("STACK_ROOT", "CONFIG_DIR", "SECRETS_DIR")},
            "REPEATED_STREAMING_CHUNK_LIMIT": "1000000",  # the upstream repeats one word, longer than the stack allows
            "LITELLM_MASTER_KEY": master,
            "LITELLM_SALT_KEY": master,
            "PGPASSWORD": password,
            "DATABASE_URL": f"postgresql://{postgres.USER}:{password}@127.0.0.1:{database_port}/{postgres.DATABASE}",
        }
        migrate = [sys.executable, "-m", "stack.runtime.migrate", env["MIGRATIONS_DIR"]]
        subprocess.run(migrate, env={**env, "PYTHONPATH": str(layout.scripts)}, check=True, capture_output=True)
        argv = [str(environment / "bin" / "litellm"), "--config", str(config), "--host", "127.0.0.1", "--port", str(port)]
        base = f"http://127.0.0.1:{port}"
        with running("litellm", argv, layout.log("plain"), lambda: probe.gateway("127.0.0.1", port).ready, env=env):
            status, answer = Gateway("127.0.0.1", port, master).call("/key/generate", {"key_alias": MODEL})
            assert status == 200, f"LiteLLM made no key: {status} {answer}"
            version = package_version(environment, "litellm")
            yield Running(base, answer["key"], version, lambda: _recorded(layout, database_port, MODEL))

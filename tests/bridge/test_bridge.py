"""The bridge's own tests, by Node against a real PostgreSQL and by the real prisma-client-py of LiteLLM's environment."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import psycopg2
import pytest

from stack.runtime import gateway_environment, migrate
from stack.runtime.layout import Layout

LAYOUT = Layout.from_environ({"ENVS_DIR": os.environ.get("ENVS_DIR", "")})


def test_the_server_is_postgresql_16(server: str) -> None:
    connection = psycopg2.connect(f"{server}/postgres")
    assert connection.server_version // 10000 == 16
    connection.close()


def test_migrations_are_applied_once(server: str, environments: tuple[Path, Path]) -> None:
    folder = Path(gateway_environment.variables(environments[1])["MIGRATIONS_DIR"])
    count = len(list(folder.glob("*/migration.sql")))
    assert count > 50
    assert migrate.migrate(f"{server}/migrated", folder) == count
    assert migrate.migrate(f"{server}/migrated", folder) == 0


def test_nodes_own_tests(server: str, environments: tuple[Path, Path], tmp_path: Path) -> None:
    copy = tmp_path / "bridge"
    shutil.copytree(LAYOUT.scripts / "prisma-bridge", copy, ignore=shutil.ignore_patterns("node_modules", "client"))
    migrate.ensure_database(f"{server}/nodes_tests")
    node = environments[1] / "node"
    env = {**os.environ, "PATH": f"{node}:{os.environ['PATH']}", "TEST_DATABASE_URL": f"{server}/nodes_tests"}
    subprocess.run([str(node / "npm"), "ci", "--no-audit", "--no-fund"], cwd=copy, env=env, check=True, timeout=300)
    done = subprocess.run([str(node / "npm"), "test"], cwd=copy, env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert "skipped 0" in done.stdout


def test_python_round_trip(server: str, environments: tuple[Path, Path]) -> None:
    variables = gateway_environment.variables(environments[1])
    if "PRISMA_QUERY_ENGINE_BINARY" not in variables:
        pytest.skip("Prisma's own engine could be downloaded here, so the bridge is not in use")
    folder = Path(variables["MIGRATIONS_DIR"])
    migrate.migrate(f"{server}/round_trip", folder)
    env = {**os.environ, **variables, "DATABASE_URL": f"{server}/round_trip"}
    python = environments[1] / "bin" / "python"
    script = LAYOUT.scripts / "prisma-bridge" / "test" / "python_roundtrip.py"
    done = subprocess.run([str(python), str(script)], env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr

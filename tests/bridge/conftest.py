"""PostgreSQL and LiteLLM's environment, as the native runtime installs them."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg2
import pytest

from stack.runtime import gateway_environment, install, postgres
from stack.runtime.layout import Layout
from stack.runtime.report import Silent

LAYOUT = Layout.from_environ({"ENVS_DIR": os.environ.get("ENVS_DIR", "")})


@pytest.fixture(scope="session")
def environments() -> tuple[Path, Path]:
    """PostgreSQL's and LiteLLM's."""
    database = install.ensure(LAYOUT, "database", Silent())
    return database, gateway_environment.ensure(LAYOUT, database, Silent())


@pytest.fixture(scope="session")
def server(environments: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A PostgreSQL 16 of the tests' own; its address, without a database's name."""
    folder = tmp_path_factory.mktemp("postgres")
    (folder / "password").write_text("secret")
    postgres.initialise(environments[0], folder / "data", folder / "password")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen(postgres.server_argv(environments[0], folder / "data", port), stderr=subprocess.DEVNULL)
    url = f"postgresql://{postgres.USER}:secret@127.0.0.1:{port}"
    try:
        for _ in range(100):
            try:
                psycopg2.connect(f"{url}/postgres").close()
                break
            except psycopg2.OperationalError:
                time.sleep(0.1)
        yield url
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(30)

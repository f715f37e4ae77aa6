"""A real PostgreSQL 16 with the tables that usage and backups read, as far as they read them."""

from __future__ import annotations

import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg2
import psycopg2.extras
import pytest

from stack.runtime import database, install, postgres
from stack.runtime.database import Database
from stack.runtime.layout import Layout
from stack.runtime.report import Silent
from tests.unit.usage.books_of_litellm import LAYOUT, SCHEMA, connect, url


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    """A PostgreSQL of the tests' own."""
    environment = install.ensure(LAYOUT, "database", Silent())
    folder = tmp_path_factory.mktemp("postgres")
    (folder / "password").write_text("secret")
    postgres.initialise(environment, folder / "data", folder / "password")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    argv = [*postgres.server_argv(environment, folder / "data", port), "-c", "fsync=off"]
    process = subprocess.Popen(argv, stderr=subprocess.DEVNULL)
    try:
        for _ in range(100):
            try:
                psycopg2.connect(url(port, "postgres")).close()
                break
            except psycopg2.OperationalError:
                time.sleep(0.05)
        reached = database.native(environment, port, "secret")
        reached.called("postgres").ask("CREATE DATABASE litellm;", writes=True)
        yield reached
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(30)


@pytest.fixture
def books(server: Database) -> Database:
    """LiteLLM's tables, empty."""
    with connect(server).cursor() as cursor:
        cursor.execute(f"DROP SCHEMA public CASCADE; CREATE SCHEMA public; {SCHEMA}")
    return server


@pytest.fixture
def add(books: Database) -> Iterator[Callable[..., None]]:
    """Writes a row; what is not said is that of an answered request of 10 tokens in, 20 out, in 2 s."""
    connection = connect(books)
    count = 0

    def write(start: str = "2026-11-20 12:00:00", seconds: float = 2.0, first: float | None = None, **given: Any) -> None:
        nonlocal count
        count += 1
        row = {
            "request_id": str(count),
            "call_type": "pass_through_endpoint",
            "prompt_tokens": 10,
            "completion_tokens": 20,
            "model_group": "m",
            "status": "success",
            **given,
        }
        for name in ("metadata", "request_tags"):
            if name in row:
                row[name] = psycopg2.extras.Json(row[name])
        names = ", ".join(f'"{name}"' for name in row)
        with connection.cursor() as cursor:
            cursor.execute(
                f'INSERT INTO "LiteLLM_SpendLogs" ({names}, "startTime", "endTime", "completionStartTime") '
                f"VALUES ({', '.join(['%s'] * len(row))}, %s, %s::timestamp + %s * interval '1 s', "
                "%s::timestamp + %s * interval '1 s')",
                (*row.values(), start, start, seconds, start, seconds if first is None else first),
            )

    yield write
    connection.close()


@pytest.fixture
def zone(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Sets this machine's time zone."""

    def change(name: str) -> None:
        monkeypatch.setenv("TZ", name)
        time.tzset()

    yield change
    monkeypatch.undo()
    time.tzset()


@pytest.fixture
def folder(tmp_path: Path) -> Layout:
    """A stack's folders, with the secret that backups bear the mark of."""
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "LITELLM_SALT_KEY").write_text("sk-salt\n")
    return Layout.from_environ({"STACK_ROOT": str(tmp_path), "ENVS_DIR": str(LAYOUT.environments)})

"""How PostgreSQL's own programs reach the stack's database: natively over loopback, in Docker inside its container.

Docker does not publish the database, and a container's address is not reachable everywhere (rootless, Docker Desktop, an
engine on another machine). `docker exec` is; so both runtimes are asked by the psql, pg_dump and pg_restore that belong to
their server.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from stack.errors import Problem, RunError
from stack.runtime import containers, install, postgres, secret_files
from stack.runtime.layout import Layout
from stack.runtime.watch import PARTS, Watch

# Seconds after which a question is given up.
PATIENCE = 300


@dataclass(frozen=True)
class Database:
    """LiteLLM's database, as it can be reached now.

    Attributes:
        options: how a program finds the server.
        env: environment variables that it needs; the password is among them, so that it is in no argument list.
        folder: where the programs are; empty: on the PATH, in the container.
        container: the container they run in, or empty.
        name: the database's name.
    """

    options: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    folder: str = ""
    container: str = ""
    name: str = postgres.DATABASE

    def called(self, name: str) -> Database:
        """Another database of the same server."""
        return replace(self, name=name)

    def argv(self, program: str, *arguments: str, env: Mapping[str, str] | None = None) -> list[str]:
        """The argument list of psql, pg_dump or pg_restore.

        Args:
            program: its name.
            arguments: its own, after those that say which server and database.
            env: variables for it, not secret.
        """
        given = [word for name, value in (env or {}).items() for word in ("-e", f"{name}={value}")]
        prefix = ["docker", "exec", "-i", *given, self.container] if self.container else []
        path = f"{self.folder}/{program}" if self.folder else program
        return [*prefix, path, *self.options, "-U", postgres.USER, "-d", self.name, *arguments]

    def environment(self, env: Mapping[str, str] | None = None) -> dict[str, str]:
        """The environment a program is started with here."""
        return {**os.environ, **self.env, **({} if self.container else env or {})}

    def ask(self, sql: str, variables: Mapping[str, str] | None = None, *, writes: bool = False) -> str:
        """What psql answers: rows as lines, columns separated by |.

        Args:
            sql: statements; they can change nothing unless `writes`.
            variables: what :'name' stands for in them.
            writes: whether they may change something.

        Raises:
            RunError: the server does not answer, or refuses.
        """
        # Not as arguments, of which none may have more than 128 kB.
        given = "".join(f"\\set {name} {_quoted(value)}\n" for name, value in (variables or {}).items())
        options = "-c client_min_messages=warning"
        if not writes:
            # 64 MB: a million times are sorted in memory. No compiler: it takes longer than it saves.
            options = f"-c default_transaction_read_only=on -c statement_timeout={PATIENCE}s -c work_mem=64MB -c jit=off"
        env = {"PGOPTIONS": options, "PGCLIENTENCODING": "UTF8", "PGCONNECT_TIMEOUT": "10"}
        argv = self.argv("psql", "-XqAt", "-v", "ON_ERROR_STOP=1", "-f", "-", env=env)
        done = subprocess.run(
            argv, input=given + sql, capture_output=True, text=True, encoding="utf-8", env=self.environment(env)
        )
        if done.returncode != 0:
            raise RunError(problem(done.returncode, done.stderr))
        return done.stdout.strip()


def _quoted(text: str) -> str:
    """A word of psql's own."""
    return "'" + text.replace("\\", "\\\\").replace("'", "''").replace("\n", "\\n") + "'"


def problem(status: int, text: str) -> Problem:
    """What is wrong, from how psql ended and what it said."""
    said = text.strip().removeprefix("psql:<stdin>:").strip()[-400:]
    if "does not exist" in text and 'relation "' in text:
        return Problem("database", "LiteLLM's tables are not there yet", "the gateway makes them when it starts: ./runMe.sh")
    if status == 2:  # psql's own: no connection
        return Problem("database", f"does not answer: {said}", "how it is: ./runMe.sh status")
    return Problem("database", said or f"psql ended with {status}")


def find(layout: Layout, runtime: Any) -> Database:
    """The database of the stack that runs.

    Raises:
        RunError: it does not run.
    """
    if runtime.name == "docker":
        container = containers.inspect().get("database")
        if container is None or not container.running:
            raise RunError(NOT_RUNNING)
        return Database(container=container.name)
    watch = Watch(layout)
    others = set(PARTS) - {"database"}
    part = next((part for part in watch.parts(without=others) if part.name == "database"), None)
    environment = install.installed(layout, "database")
    if part is None or not part.pid or environment is None:
        raise RunError(NOT_RUNNING)
    port = watch.services()["database"].port
    return native(environment, port, secret_files.read(layout.secrets, "POSTGRES_PASSWORD"))


def native(environment: Any, port: int, password: str) -> Database:
    """A server that listens on loopback.

    Args:
        environment: where PostgreSQL is installed.
        port: the server's.
        password: the user's.
    """
    options = ("-h", "127.0.0.1", "-p", str(port))
    return Database(options=options, env={"PGPASSWORD": password}, folder=str(postgres.binaries(environment)))


NOT_RUNNING = Problem("database", "is not running", "start the stack: ./runMe.sh")

"""`./runMe.sh backup`: the database as one file, while the stack works."""

from __future__ import annotations

import hashlib
import hmac
import os
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO, cast

from stack import views
from stack.backup import archive
from stack.errors import ConfigError, Problem, RunError
from stack.runtime import database, secret_files
from stack.runtime.database import Database
from stack.runtime.layout import Layout

# A line `table|rows` for each table, counted exactly.
COUNTS = (
    "SELECT format('SELECT %L, count(*) FROM %I', tablename, tablename) FROM pg_tables "
    "WHERE schemaname = 'public' ORDER BY tablename \\gexec\n"
)
FACTS = "SELECT current_setting('server_version'), pg_export_snapshot();\n"
NEWEST_MIGRATION = 'SELECT max(migration_name) FROM "_prisma_migrations" WHERE finished_at IS NOT NULL;\n'
SALT_KEY = "LITELLM_SALT_KEY"
_END = "-- end --"


def run(layout: Layout, runtime: Any, file: str, *, as_json: bool) -> int:
    """Write a backup and say what is in it.

    Raises:
        ConfigError: the file cannot be there.
        RunError: the database does not answer, or the file cannot be written.
    """
    path = Path(file) if file else layout.state / "backups" / f"{datetime.now():%Y%m%d-%H%M%S}.backup"
    if file and (not path.absolute().parent.is_dir() or path.is_dir()):
        raise ConfigError(Problem(file, "is not a file in a folder that is there"))
    reached = database.find(layout, runtime)
    size, tables = write(reached, path, layout)
    if as_json:
        views.print_json({"file": str(path), "bytes": size, "tables": tables})
    else:
        print(f"{path}: {summary(tables)}, {size / 1e6:,.1f} MB")
        print(f"values that {SALT_KEY} encrypts need the same one again: keep a copy of secrets/ too")
    return 0


def write(reached: Database, path: Path, layout: Layout) -> tuple[int, dict[str, int]]:
    """Dump a database into a file.

    Returns:
        The file's size in bytes, and the rows of each table.

    Raises:
        RunError: the database does not answer, or the file cannot be written.
    """
    with _snapshot(reached) as (version, snapshot, migration, tables):
        if "LiteLLM_VerificationToken" not in tables:
            raise RunError(Problem("database", "LiteLLM's tables are not there yet", "the gateway makes them: ./runMe.sh"))
        manifest = {
            "made": datetime.now(UTC).isoformat(timespec="seconds"),
            "postgresql": version,
            "migration": migration,
            "tables": tables,
            "salt_key": fingerprint(secret_files.read(layout.secrets, SALT_KEY)),
        }
        with _dump(reached, snapshot) as source:
            return archive.write(path, manifest, lambda: source), tables


def summary(tables: Mapping[str, int]) -> str:
    """What matters, in words."""
    return f"{tables['LiteLLM_VerificationToken']:,} keys, {tables['LiteLLM_SpendLogs']:,} requests"


def fingerprint(secret: str, salt: bytes = b"") -> dict[str, str]:
    """By what a secret is known again: a slow hash, so that nobody finds the secret by trying."""
    salt = salt or os.urandom(16)
    return {"salt": salt.hex(), "scrypt": hashlib.scrypt(secret.encode(), salt=salt, n=1 << 14, r=8, p=1, dklen=16).hex()}


def is_of(mark: Mapping[str, str], secret: str) -> bool:
    """Whether a fingerprint is that of a secret."""
    return hmac.compare_digest(fingerprint(secret, bytes.fromhex(mark["salt"]))["scrypt"], mark["scrypt"])


def counted(lines: str) -> dict[str, int]:
    """What COUNTS answers."""
    return {name: int(rows) for name, _, rows in (line.rpartition("|") for line in lines.splitlines())}


@contextmanager
def _snapshot(reached: Database) -> Iterator[tuple[str, str, str, dict[str, int]]]:
    """The database as it is now, for as long as this goes on: counted, and for pg_dump to look at."""
    argv = reached.argv("psql", "-XqAt", "-v", "ON_ERROR_STOP=1")
    with tempfile.TemporaryFile("w+") as errors:
        psql = subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True, env=reached.environment()
        )
        assert psql.stdin is not None
        assert psql.stdout is not None
        try:
            psql.stdin.write("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY;\n")
            psql.stdin.write(f"{FACTS}{NEWEST_MIGRATION}{COUNTS}\\echo '{_END}'\n")
            psql.stdin.flush()
            lines = []
            for line in psql.stdout:
                if line.strip() == _END:
                    break
                lines.append(line.rstrip("\n"))
            else:
                errors.seek(0)
                raise RunError(database.problem(psql.wait(), errors.read()))
            version, _, snapshot = lines[0].partition("|")
            yield version, snapshot, lines[1], counted("\n".join(lines[2:]))
        finally:
            psql.stdin.close()
            psql.stdout.close()
            psql.wait()


@contextmanager
def _dump(reached: Database, snapshot: str) -> Iterator[BinaryIO]:
    """pg_dump's output; its failure is an error at its end, before a file has got its name."""
    argv = reached.argv(
        "pg_dump", "--format=custom", "--compress=1", "--no-owner", "--no-privileges", f"--snapshot={snapshot}"
    )
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=errors, env=reached.environment())
        assert process.stdout is not None
        try:
            yield cast(BinaryIO, _Checked(process, errors))
        finally:
            process.stdout.close()
            process.wait()


class _Checked:
    """A process's output, whose end is an error if the process failed."""

    def __init__(self, process: subprocess.Popen[bytes], errors: Any) -> None:
        self._process, self._errors = process, errors

    def read(self, size: int) -> bytes:
        assert self._process.stdout is not None
        piece = self._process.stdout.read(size)
        if not piece and self._process.wait() != 0:
            self._errors.seek(0)
            raise RunError(Problem("pg_dump", self._errors.read().strip()[-400:] or "failed"))
        return piece

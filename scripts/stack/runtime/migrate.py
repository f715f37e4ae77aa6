"""Brings LiteLLM's database to the schema of the installed version, from the SQL files LiteLLM itself ships.

    DATABASE_URL=... python -m stack.runtime.migrate FOLDER

Does what `prisma migrate deploy` does and keeps the same table of what was applied (_prisma_migrations), so that
either can go on where the other left off. Needed where Prisma's own program cannot be downloaded.
"""

from __future__ import annotations

import hashlib
import os
import re
import sys
import time
import uuid
from pathlib import Path
from urllib.parse import urlsplit

import psycopg2
import psycopg2.extensions

from stack.local_key import LOCAL_KEY, key_hash

LEDGER = """
CREATE TABLE IF NOT EXISTS "_prisma_migrations" (
  "id" VARCHAR(36) PRIMARY KEY NOT NULL, "checksum" VARCHAR(64) NOT NULL, "finished_at" TIMESTAMPTZ,
  "migration_name" VARCHAR(255) NOT NULL, "logs" TEXT, "rolled_back_at" TIMESTAMPTZ,
  "started_at" TIMESTAMPTZ NOT NULL DEFAULT now(), "applied_steps_count" INTEGER NOT NULL DEFAULT 0)
"""
CONCURRENTLY = re.compile(r"^CREATE INDEX CONCURRENTLY", re.MULTILINE)
LOCK = 72707369  # the advisory lock that Prisma's own migration tool takes


def pending(connection: psycopg2.extensions.connection, folder: Path) -> list[Path]:
    """Migrations in `folder` that were not applied, in order."""
    with connection.cursor() as cursor:
        cursor.execute('SELECT migration_name FROM "_prisma_migrations" WHERE finished_at IS NOT NULL')
        applied = {row[0] for row in cursor.fetchall()}
    connection.commit()
    return [file for file in sorted(folder.glob("*/migration.sql")) if file.parent.name not in applied]


def apply(connection: psycopg2.extensions.connection, file: Path) -> None:
    """Apply one migration and record it, both or neither."""
    sql = file.read_bytes()
    text = sql.decode("utf-8")
    if CONCURRENTLY.search(text):
        # One statement that PostgreSQL runs outside transactions only; it is written so that it may run again.
        connection.autocommit = True
        try:
            with connection.cursor() as cursor:
                cursor.execute(text)
        finally:
            connection.autocommit = False
        text = "SELECT 1"
    with connection, connection.cursor() as cursor:
        cursor.execute(text)
        cursor.execute(
            'INSERT INTO "_prisma_migrations" (id, checksum, migration_name, finished_at, applied_steps_count) '
            "VALUES (%s, %s, %s, now(), 1)",
            (str(uuid.uuid4()), hashlib.sha256(sql).hexdigest(), file.parent.name),
        )


def ensure_database(url: str) -> None:
    """Create the database that `url` names, unless it is there."""
    parts = urlsplit(url)
    name = parts.path.lstrip("/")
    connection = psycopg2.connect(parts._replace(path="/postgres").geturl())
    connection.autocommit = True
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1 FROM pg_database WHERE datname = %s", (name,))
            if cursor.fetchone() is None:
                cursor.execute(f'CREATE DATABASE "{name}"')
    finally:
        connection.close()


def migrate(url: str, folder: Path) -> int:
    """Apply what is pending.

    Returns:
        How many migrations were applied.
    """
    ensure_database(url)
    connection = psycopg2.connect(url)
    try:
        with connection, connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_lock(%s)", (LOCK,))
            cursor.execute(LEDGER)
        files = pending(connection, folder)
        for file in files:
            try:
                apply(connection, file)
            except psycopg2.Error as error:
                raise SystemExit(f"error: migration {file.parent.name}: {error}") from None
        return len(files)
    finally:
        connection.close()


def forget_local_key(url: str) -> None:
    """Delete sk-FAKE before the gateway listens, so that it is never offered to other machines."""
    connection = psycopg2.connect(url)
    try:
        with connection, connection.cursor() as cursor:
            cursor.execute('DELETE FROM "LiteLLM_VerificationToken" WHERE token = %s', (key_hash(LOCAL_KEY),))
    finally:
        connection.close()


def main() -> int:
    """Wait until the server takes connections, then migrate."""
    deadline = time.monotonic() + 60
    while True:
        try:
            count = migrate(os.environ["DATABASE_URL"], Path(sys.argv[1]))
            break
        except psycopg2.OperationalError as error:
            if time.monotonic() > deadline:
                print(f"error: the database does not answer: {error}", file=sys.stderr)
                return 1
            time.sleep(0.3)
    if os.environ.get("LOCAL_KEY") == "false":
        forget_local_key(os.environ["DATABASE_URL"])
    print(f"the database is up to date; {count} migrations were applied")
    return 0


if __name__ == "__main__":
    sys.exit(main())

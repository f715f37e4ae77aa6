"""A backup comes back row by row, or nothing has changed."""

from __future__ import annotations

import contextlib
import json
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from stack.backup import archive, create, restore
from stack.errors import ConfigError, RunError
from stack.runtime import database, pause
from stack.runtime.database import Database
from stack.runtime.layout import Layout
from tests.unit.usage.books_of_litellm import connect

Add = Callable[..., None]


@pytest.fixture
def stopped(books: Database, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A database that is found, and a gateway that notes what becomes of it."""
    events: list[str] = []

    @contextlib.contextmanager
    def gateway(*_: Any) -> Iterator[None]:
        events.append("stopped")
        try:
            yield
        finally:
            events.append("started")

    monkeypatch.setattr(database, "find", lambda *_: books)
    monkeypatch.setattr(pause, "gateway", gateway)
    return events


@pytest.fixture
def filled(books: Database, add: Add) -> Database:
    books.ask("""INSERT INTO "LiteLLM_VerificationToken" VALUES ('hash', 'Zoë "quoted"');""", writes=True)
    for index in range(30):
        add(metadata={"user_agent": f"ä\\n{index}"}, completion_tokens=index)
    return books


def content(books: Database) -> list[Any]:
    with connect(books).cursor() as cursor:
        rows = []
        for table in ("LiteLLM_SpendLogs", "LiteLLM_VerificationToken", "_prisma_migrations"):
            cursor.execute(f'SELECT * FROM "{table}" ORDER BY 1')
            rows.append(cursor.fetchall())
        return rows


def databases(books: Database) -> list[str]:
    return books.ask("SELECT datname FROM pg_database WHERE datname LIKE 'litellm%' ORDER BY 1;").split()


def test_wiped_and_restored(filled: Database, stopped: list[str], folder: Layout, tmp_path: Path) -> None:
    before, file = content(filled), tmp_path / "x.backup"
    assert create.run(folder, None, str(file), as_json=False) == 0
    assert oct(file.stat().st_mode)[-3:] == "600"
    assert stopped == []
    filled.ask('DELETE FROM "LiteLLM_SpendLogs"; DROP TABLE "LiteLLM_VerificationToken" CASCADE;', writes=True)
    filled.ask('CREATE TABLE "LiteLLM_VerificationToken" (token text);', writes=True)
    assert restore.run(folder, None, str(file), as_json=False) == 0
    assert content(filled) == before
    assert stopped == ["stopped", "started"]
    assert databases(filled) == ["litellm"]
    assert {path.name for path in tmp_path.iterdir()} == {"x.backup", "secrets", ".state"}
    # What was there is a backup itself.
    (saved,) = (folder.state / "backups").iterdir()
    assert archive.read(saved).manifest["tables"]["LiteLLM_SpendLogs"] == 0


def test_a_backup_is_of_one_moment(filled: Database, add: Add, folder: Layout, tmp_path: Path) -> None:
    with create._snapshot(filled) as (_, snapshot, _, tables):
        add()
        with create._dump(filled, snapshot) as source:
            archive.write(tmp_path / "x", {"tables": tables}, lambda: source)
    backup = archive.read(tmp_path / "x")
    filled.called("postgres").ask("CREATE DATABASE litellm_restore;", writes=True)
    restore._unpack(backup, filled.called("litellm_restore"))
    assert create.counted(filled.called("litellm_restore").ask(create.COUNTS)) == tables
    assert tables["LiteLLM_SpendLogs"] == 30
    filled.called("postgres").ask("DROP DATABASE litellm_restore;", writes=True)


def test_the_file_can_be_read_without_this_program(filled: Database, folder: Layout, tmp_path: Path) -> None:
    create.write(filled, tmp_path / "x", folder)
    with tarfile.open(tmp_path / "x") as file:
        assert file.getnames() == ["manifest.json", "database.dump", "database.dump.sha256"]
        file.extractall(tmp_path, filter="data")
    subprocess.run(["sha256sum", "-c", "database.dump.sha256"], cwd=tmp_path, check=True, capture_output=True)
    listing = subprocess.run(
        [f"{filled.folder}/pg_restore", "-l", tmp_path / "database.dump"], capture_output=True, text=True
    )
    assert "LiteLLM_VerificationToken" in listing.stdout
    text = (tmp_path / "x").read_bytes()
    assert b"sk-salt" not in text


def damage(path: Path, how: str) -> None:
    raw = path.read_bytes()
    middle = raw.index(b"PGDMP") + 2000
    changed = {
        "empty": b"",
        "text": b"-- PostgreSQL database dump\n",
        "cut short": raw[:middle],
        "without its end": raw[: raw.index(b"database.dump.sha256")],
        "one byte": raw[:middle] + bytes([raw[middle] ^ 1]) + raw[middle + 1 :],
        "manifest": raw.replace(b'"format": 1', b'"format": 9'),
        "no manifest": raw.replace(b"manifest.json", b"manifest.jsox"),
    }
    path.write_bytes(changed[how])


@pytest.mark.parametrize("how", ["empty", "text", "cut short", "without its end", "one byte", "manifest", "no manifest"])
def test_what_is_no_backup_changes_nothing(
    filled: Database, stopped: list[str], folder: Layout, tmp_path: Path, how: str
) -> None:
    before, file = content(filled), tmp_path / "x"
    create.write(filled, file, folder)
    damage(file, how)
    with pytest.raises(ConfigError) as error:
        restore.run(folder, None, str(file), as_json=False)
    assert str(file) in str(error.value)
    assert content(filled) == before
    assert stopped == []


@pytest.mark.parametrize("name", ["not-there", "."])
def test_a_file_that_cannot_be_read(folder: Layout, tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        restore.run(folder, None, str(tmp_path / name), as_json=False)


def test_rows_that_are_missing_are_noticed(filled: Database, stopped: list[str], folder: Layout, tmp_path: Path) -> None:
    before, file = content(filled), tmp_path / "x"
    create.write(filled, file, folder)
    file.write_bytes(file.read_bytes().replace(b'"LiteLLM_SpendLogs": 30', b'"LiteLLM_SpendLogs": 31'))
    with pytest.raises(RunError, match="LiteLLM_SpendLogs has 30 rows, not 31"):
        restore.run(folder, None, str(file), as_json=False)
    assert content(filled) == before
    assert stopped == []
    assert databases(filled) == ["litellm"]


def test_a_newer_litellms_backup_is_refused(filled: Database, stopped: list[str], folder: Layout, tmp_path: Path) -> None:
    create.write(filled, tmp_path / "x", folder)
    filled.ask("""UPDATE "_prisma_migrations" SET migration_name = '20251231000000_older';""", writes=True)
    with pytest.raises(ConfigError, match="of a newer LiteLLM: 20260101000000_one"):
        restore.run(folder, None, str(tmp_path / "x"), as_json=False)


def test_another_salt_key_is_told(
    filled: Database, stopped: list[str], folder: Layout, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    create.write(filled, tmp_path / "x", folder)
    restore.run(folder, None, str(tmp_path / "x"), as_json=True)
    answer = capsys.readouterr()
    assert "LITELLM_SALT_KEY" not in answer.err
    assert json.loads(answer.out)["tables"]["LiteLLM_SpendLogs"] == 30
    (folder.secrets / "LITELLM_SALT_KEY").write_text("sk-other")
    restore.run(folder, None, str(tmp_path / "x"), as_json=True)
    assert "LITELLM_SALT_KEY is not the one that the backup was made with" in capsys.readouterr().err


def test_a_backup_that_fails_leaves_the_earlier_one(filled: Database, folder: Layout, tmp_path: Path) -> None:
    file = tmp_path / "x"
    create.write(filled, file, folder)
    before = file.read_bytes()

    class Broken:
        def read(self, size: int) -> bytes:
            raise RunError

    with pytest.raises(RunError):
        archive.write(file, {}, Broken)  # type: ignore[arg-type]
    with pytest.raises(RunError, match="not there yet"):
        create.write(filled.called("template1"), file, folder)
    assert file.read_bytes() == before
    assert {path.name for path in tmp_path.iterdir()} == {"x", "secrets"}


def test_a_dump_that_fails_is_an_error(filled: Database) -> None:
    with create._dump(filled, "no-such-snapshot") as source, pytest.raises(RunError, match="snapshot"):
        source.read(1)


def test_where_a_backup_goes(
    filled: Database, stopped: list[str], folder: Layout, capsys: pytest.CaptureFixture[str]
) -> None:
    assert create.run(folder, None, "", as_json=True) == 0
    answer = json.loads(capsys.readouterr().out)
    path = Path(answer["file"])
    assert path.parent == folder.state / "backups"
    assert path.parent.stat().st_mode & 0o077 == 0
    assert path.stat().st_size == answer["bytes"]
    with pytest.raises(ConfigError, match="folder that is there"):
        create.run(folder, None, "/nowhere/x", as_json=True)

"""`./runMe.sh restore`: a backup in the place of what the database holds, all of it or nothing."""

from __future__ import annotations

import contextlib
import subprocess
import tempfile
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO, cast

from stack import views
from stack.backup import archive, create
from stack.backup.archive import Backup
from stack.display import reporter
from stack.errors import ConfigError, Problem, RunError
from stack.runtime import database, pause, postgres, secret_files
from stack.runtime.database import Database
from stack.runtime.layout import Layout
from stack.runtime.report import Report

# Where a backup is unpacked, and what the database is called in the moment in which they change places.
BESIDE, BEFORE = "litellm_restore", "litellm_before"
TIDY = 'DROP DATABASE IF EXISTS :"beside" WITH (FORCE); DROP DATABASE IF EXISTS :"before" WITH (FORCE);'
SWAP = """
SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = :'used';
BEGIN;
ALTER DATABASE :"used" RENAME TO :"before";
ALTER DATABASE :"beside" RENAME TO :"used";
COMMIT;
"""


def run(layout: Layout, runtime: Any, file: str, *, as_json: bool) -> int:
    """Restore a backup.

    It is unpacked and counted beside the database in use, which goes on to serve. Then the gateway stops, so that its last
    usage is written and nothing that it remembers outlives the change; what was there is itself backed up; the two change
    places in one transaction; and the gateway starts again, which brings the tables of an older LiteLLM up to date.

    Raises:
        ConfigError: the file is no backup, or of a newer LiteLLM; nothing has changed.
        RunError: something failed; what was there is there.
    """
    backup = archive.read(Path(file))
    reached = database.find(layout, runtime)
    _check_age(backup, reached)
    with reporter(views.console(stderr=True)) as report:
        if not create.is_of(backup.manifest["salt_key"], secret_files.read(layout.secrets, create.SALT_KEY)):
            report.note(
                f"{create.SALT_KEY} is not the one that the backup was made with. Keys and usage are not concerned; LiteLLM "
                "cannot read what it had encrypted (credentials and models added by its API) until the other machine's "
                f"secrets/{create.SALT_KEY} is here and the stack has started anew"
            )
        saved = layout.state / "backups" / f"before-restore-{datetime.now():%Y%m%d-%H%M%S}.backup"
        tables = _restore(backup, reached, layout, runtime, saved, report)
    if as_json:
        views.print_json({"file": file, "made": backup.manifest["made"], "tables": tables, "before": str(saved)})
    else:
        print(f"restored: {create.summary(tables)}, as of {backup.manifest['made']}")
        print(f"what was there before: {saved}")
    return 0


def _restore(
    backup: Backup, reached: Database, layout: Layout, runtime: Any, saved: Path, report: Report
) -> Mapping[str, int]:
    admin, beside = reached.called("postgres"), reached.called(BESIDE)
    names = {"beside": BESIDE, "before": BEFORE}
    admin.ask(TIDY, names, writes=True)
    try:
        report.phase("database", "unpacking the backup beside what is there")
        admin.ask('CREATE DATABASE :"beside" TEMPLATE template0;', names, writes=True)
        _unpack(backup, beside)
        tables = create.counted(beside.ask(create.COUNTS))
        if tables != backup.manifest["tables"]:
            raise RunError(Problem(str(backup.path), _difference(backup.manifest["tables"], tables)))
        beside.ask("ANALYZE;", writes=True)
        report.finished("database", f"unpacked and counted: {create.summary(tables)}")
        with pause.gateway(layout, runtime, report):
            report.phase("database", "backing up what is there")
            create.write(reached, saved, layout)
            admin.ask(SWAP, {"used": postgres.DATABASE, "beside": BESIDE, "before": BEFORE}, writes=True)
            report.finished("database", "the backup is in its place")
    finally:
        admin.ask(
            f"DROP DATABASE IF EXISTS {BESIDE} WITH (FORCE);\nDROP DATABASE IF EXISTS {BEFORE} WITH (FORCE);", writes=True
        )
    return tables


def _check_age(backup: Backup, reached: Database) -> None:
    """A newer LiteLLM's tables are not for this one."""
    ours = reached.ask(create.NEWEST_MIGRATION)
    theirs = str(backup.manifest["migration"])
    if theirs > ours:
        cure = "update this stack first: git pull && ./runMe.sh"
        raise ConfigError(Problem(str(backup.path), f"is of a newer LiteLLM: {theirs}, here {ours}", cure))


def _unpack(backup: Backup, into: Database) -> None:
    argv = into.argv("pg_restore", "--no-owner", "--no-privileges", "--exit-on-error", "--single-transaction")
    with (
        tempfile.TemporaryFile("w+") as errors,
        subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=errors, stderr=errors, env=into.environment()) as process,
    ):
        assert process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it says itself why
            backup.feed(cast(BinaryIO, process.stdin))
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()
        if process.wait() != 0:
            errors.seek(0)
            raise RunError(Problem("pg_restore", errors.read().strip()[-400:] or f"ended with {process.returncode}"))


def _difference(wanted: Mapping[str, int], found: Mapping[str, int]) -> str:
    """The first table that is not as it was."""
    names = [name for name in {**wanted, **found} if wanted.get(name) != found.get(name)]
    return f"{names[0]} has {found.get(names[0])} rows, not {wanted.get(names[0])}" if names else ""

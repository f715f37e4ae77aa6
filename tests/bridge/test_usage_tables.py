"""LiteLLM's real tables and its own job that deletes old usage, as configured."""

from __future__ import annotations

import os
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

import psycopg2
import pytest

from stack import plan
from stack.runtime import database, gateway_environment, migrate
from stack.runtime.layout import REPOSITORY
from stack.usage import period, query

CLEANUP = Path(__file__).with_name("spend_log_cleanup.py")


@pytest.fixture(scope="module")
def books(server: str, environments: tuple[Path, Path]) -> str:
    """The address of a database with LiteLLM's tables."""
    migrate.migrate(f"{server}/books", Path(gateway_environment.variables(environments[1])["MIGRATIONS_DIR"]))
    return f"{server}/books"


def test_litellms_tables_have_what_the_figures_are_made_of(books: str, environments: tuple[Path, Path]) -> None:
    reached = database.native(environments[0], urlsplit(books).port or 0, "secret").called("books")
    now = datetime.now(UTC)
    found = query.read(reached, period.of(now - timedelta(hours=3), now), query.DIMENSIONS)
    assert found.total == query.Row("")
    assert found.by["model"] == []


@pytest.mark.parametrize(("retention", "kept"), [("365", 4), ("30", 3), ("0", 5)])
def test_old_rows_are_deleted_and_young_ones_are_not(
    books: str, environments: tuple[Path, Path], tmp_path: Path, retention: str, kept: int
) -> None:
    """Its batches are 1,000 rows, so a multitude of the oldest needs several."""
    config = plan.make(REPOSITORY, {"MODEL": "smollm2-135m"}, [f"USAGE_RETENTION={retention}"]).gateway_config
    (tmp_path / "config.yaml").write_text(config)
    with psycopg2.connect(books) as connection, connection.cursor() as cursor:
        cursor.execute('DELETE FROM "LiteLLM_SpendLogs"')
        cursor.execute(
            """INSERT INTO "LiteLLM_SpendLogs" (request_id, call_type, "startTime", "endTime")
            SELECT days || '-' || copy, 'acompletion', (now() AT TIME ZONE 'UTC') - days * interval '1 day', now()
            FROM unnest(ARRAY[0, 1, 29, 364, 366]) AS days,
              generate_series(1, CASE days WHEN 366 THEN 2500 ELSE 1 END) AS copy"""
        )
    variables = gateway_environment.variables(environments[1])
    env = {**os.environ, **variables, "DATABASE_URL": books, "PYTHONPATH": "", "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    python = environments[1] / "bin" / "python"
    done = subprocess.run(
        [str(python), str(CLEANUP), str(tmp_path / "config.yaml")], env=env, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-3000:]
    with psycopg2.connect(books) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT count(DISTINCT split_part(request_id, '-', 1)) FROM \"LiteLLM_SpendLogs\"")
        assert cursor.fetchone() == (kept,), done.stderr[-3000:]

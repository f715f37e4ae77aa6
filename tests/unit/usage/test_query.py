"""The figures, asked of a real PostgreSQL."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from stack.errors import RunError
from stack.runtime.database import Database
from stack.usage import period, query
from stack.usage.query import Usage
from tests.unit.usage.books_of_litellm import connect

NOW = datetime(2026, 11, 26, 13, 30, tzinfo=UTC)
Add = Callable[..., None]


def read(books: Database, *dimensions: str, since: str = "2026-11-01", now: datetime = NOW) -> Usage:
    return query.read(books, period.of(period.since(since, now), now, "day"), dimensions)


def names(usage: Usage, dimension: str) -> list[tuple[str, int]]:
    return [(row.name, row.requests) for row in usage.by[dimension]]


def test_an_empty_database(books: Database) -> None:
    usage = read(books, *query.DIMENSIONS, since="2026-11-25")
    assert usage.total == query.Row("")
    assert usage.total.tokens_per_s is None
    assert {name: len(rows) for name, rows in usage.by.items()} == {"model": 0, "key": 0, "client": 0, "period": 2}
    assert usage.errors == {}


def test_sums_and_percentiles(books: Database, add: Add) -> None:
    for seconds in range(1, 101):
        add(seconds=float(seconds), first=seconds / 10, prompt_tokens=seconds, completion_tokens=2)
    add(status="failure", seconds=500.0, prompt_tokens=7, metadata={"error_information": {"error_code": "429"}})
    add(status="failure", prompt_tokens=9, metadata={"error_information": {"error_code": "499"}})
    add(status="failure", metadata={})
    total = read(books, "model").total
    assert (total.requests, total.answered, total.errors, total.cancelled) == (103, 100, 2, 1)
    assert (total.tokens_in, total.tokens_out) == (5050, 200)
    assert total.latency == pytest.approx((50.5, 95.05))
    assert total.ttft == pytest.approx((5.05, 9.505))
    assert total.tokens_per_s == pytest.approx(200 / 5050)
    assert read(books).errors == {"429": 1, "499": 1, "?": 1}


def test_an_answer_in_one_piece_has_no_first_token(books: Database, add: Add) -> None:
    add()
    assert read(books).total.ttft is None
    add(first=0.5)
    assert read(books).total.ttft == pytest.approx((0.5, 0.5))


def test_models_by_their_own_name_however_the_request_ended(books: Database, add: Add) -> None:
    add(model_group="qwen", model="hosted_vllm/qwen")
    add(model_group="", model="qwen", status="failure")
    add(model_group=None, model="hosted_vllm/qwen", status="failure")
    add(model_group="", model="")
    assert names(read(books, "model"), "model") == [("qwen", 3), ("(unknown)", 1)]


def test_keys_have_their_alias(books: Database, add: Add) -> None:
    with connect(books).cursor() as cursor:
        cursor.execute('INSERT INTO "LiteLLM_VerificationToken" VALUES (%s, %s), (%s, NULL)', ("a" * 64, "alice", "b" * 64))
        cursor.execute(
            'INSERT INTO "LiteLLM_DeletedVerificationToken" (id, token, key_alias, deleted_at) VALUES '
            "('1', %s, 'older', '2026-01-01'), ('2', %s, 'carol', '2026-02-01'), ('3', %s, 'alice', '2026-02-01')",
            ("c" * 64, "c" * 64, "a" * 64),
        )
    for key, count in (("a" * 64, 5), ("b" * 64, 4), ("c" * 64, 3), ("litellm_proxy_master_key", 2)):
        for _ in range(count):
            add(api_key=key)
    for guess in ("d" * 64, "e" * 64, ""):
        add(api_key=guess, status="failure")
    found = names(read(books, "key"), "key")
    assert found == [("alice", 5), ("key bbbbbbbb", 4), ("(unknown)", 3), ("carol (deleted)", 3), ("(master key)", 2)]


def test_clients_without_their_version(books: Database, add: Add) -> None:
    clients = {
        "OpenAI/Python 2.3.0": "OpenAI/Python",
        "AsyncOpenAI/Python 1.2": "AsyncOpenAI/Python",
        "claude-cli/2.1.0 (external, cli)": "claude-cli",
        "curl/7.88.1": "curl",
        "Mozilla/5.0 (X11; Linux x86_64)": "Mozilla",
        "python-httpx/0.28.1": "python-httpx",
        "": "(unknown)",
    }
    for agent in clients:
        add(metadata={"user_agent": agent})
        add(call_type="acompletion", request_tags=["batch", f"User-Agent: {agent}"])
    add(metadata={"user_agent": None})
    expected = [("(unknown)", 3), *sorted((name, 2) for name in clients.values() if name != "(unknown)")]
    assert names(read(books, "client"), "client") == expected


def test_days_are_those_of_the_machine_when_the_clocks_change(
    books: Database, add: Add, zone: Callable[[str], None]
) -> None:
    zone("Europe/Berlin")
    for start in ("2026-10-24 21:59:59", "2026-10-24 22:00:00", "2026-10-25 22:59:59.999", "2026-10-25 23:00:00"):
        add(start)
    usage = read(books, "period", since="2026-10-24", now=datetime(2026, 10, 27, 22, 0, tzinfo=UTC))
    assert names(usage, "period") == [("2026-10-24", 1), ("2026-10-25", 2), ("2026-10-26", 1), ("2026-10-27", 0)]


def test_the_period_has_its_beginning_and_not_its_end(books: Database, add: Add) -> None:
    for start in ("2026-10-31 23:59:59.999", "2026-11-01 00:00:00", "2026-11-26 13:29:59.999", "2026-11-26 13:30:00"):
        add(start)
    assert read(books).total.requests == 2


def test_what_came_with_a_request_is_only_text(books: Database, add: Add) -> None:
    evil = "'; DROP TABLE x; -- \\ \" \n\x1b[31m|<script>"
    add(model_group=evil)
    (row,) = read(books, "model").by["model"]
    assert row.name == evil


def test_it_can_change_nothing(books: Database) -> None:
    with pytest.raises(RunError, match="read-only transaction"):
        books.ask('DELETE FROM "LiteLLM_VerificationToken";')


def test_a_server_that_is_away_and_tables_that_are_not_there(books: Database) -> None:
    away = Database(options=("-h", "127.0.0.1", "-p", "1"), folder=books.folder)
    with pytest.raises(RunError, match="does not answer"):
        read(away)
    with pytest.raises(RunError, match="tables are not there yet"):
        read(books.called("postgres"))


def test_a_short_period_is_found_by_the_index(books: Database, add: Add) -> None:
    books.ask(
        """INSERT INTO "LiteLLM_SpendLogs" (request_id, call_type, "startTime", "endTime")
        SELECT 'x' || n, 'c', timestamp '2026-01-01' + n * interval '1 h', timestamp '2026-01-01' + n * interval '1 h'
        FROM generate_series(1, 7000) AS n; ANALYZE "LiteLLM_SpendLogs";""",
        writes=True,
    )
    variables = {"since": "2026-10-01", "until": "2026-10-02", "edges": "{2026-10-01}", "dimensions": "{model,key,period}"}
    plan = books.ask(f"EXPLAIN {strip(query.SQL.read_text())}", variables)
    assert re.search(r"(Index|Bitmap Index) Scan (using|on) \S*startTime", plan), plan


def strip(sql: str) -> str:
    return "\n".join(line for line in sql.splitlines() if not line.lstrip().startswith("--"))


def test_data_is_plain(books: Database, add: Add) -> None:
    add(first=0.5)
    data: dict[str, Any] = read(books, "model").by["model"][0].data()
    assert data == {
        "name": "m",
        "requests": 1,
        "answered": 1,
        "errors": 0,
        "cancelled": 0,
        "tokens_in": 10,
        "tokens_out": 20,
        "tokens_per_s": 10.0,
        "latency_p50_s": 2.0,
        "latency_p95_s": 2.0,
        "ttft_p50_s": 0.5,
        "ttft_p95_s": 0.5,
    }

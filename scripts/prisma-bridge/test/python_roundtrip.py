"""Drives the bridge with the real prisma-client-py, generated from LiteLLM's schema.

Run in the gateway's environment, against a database that has LiteLLM's tables:

    PRISMA_QUERY_ENGINE_BINARY=.../query-engine DATABASE_URL=postgresql://... python test/python_roundtrip.py

Every row it makes is named ``bridge-test-…`` and removed at the end. Exits non-zero when a check fails.
"""

from __future__ import annotations

import asyncio
import sys
import traceback
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta, timezone

from prisma import Json, Prisma
from prisma.errors import (
    FieldNotFoundError,
    MissingRequiredValueError,
    RawQueryError,
    RecordNotFoundError,
    TransactionError,
    TransactionExpiredError,
    UniqueViolationError,
)

PREFIX = "bridge-test-"
AWKWARD = 'quote " \' backslash \\ newline \n tab \t unicode ☃ 😀 braces {} [] $1 """'
BIG = 2**53 + 1
WHEN = datetime(2024, 1, 2, 3, 4, 5, 678901, tzinfo=timezone(timedelta(hours=2)))
STORED = datetime(2024, 1, 2, 1, 4, 5, 678000, tzinfo=UTC)


def equal(actual: object, expected: object) -> None:
    """A comparison that says what it saw."""
    if actual != expected:
        raise AssertionError(f"expected {expected!r}, got {actual!r}")


async def raises(kind: type[Exception], work: Awaitable[object]) -> Exception:
    """The exception of exactly this class that `work` raises."""
    try:
        await work
    except Exception as error:
        if type(error) is kind:
            return error
        raise
    raise AssertionError(f"{kind.__name__} was not raised")


async def clean(db: Prisma) -> None:
    """Removes what earlier or failed runs left behind."""
    where = {"startswith": PREFIX}
    await db.litellm_verificationtoken.delete_many(where={"token": where})
    await db.litellm_usertable.delete_many(where={"user_id": where})
    await db.litellm_spendlogs.delete_many(where={"request_id": where})
    await db.litellm_dailyuserspend.delete_many(where={"user_id": where})
    await db.litellm_budgettable.delete_many(where={"budget_id": where})


async def values(db: Prisma) -> None:
    """Json, dates, lists, floats, BigInt and awkward text survive the way there and back."""
    metadata = {"text": AWKWARD, "nested": [1, 2.5, None, True, {"a": {}}], AWKWARD: []}
    created = await db.litellm_verificationtoken.create(
        data={
            "token": PREFIX + "1",
            "key_alias": AWKWARD,
            "models": ["a", AWKWARD],
            "spend": 1e-9,
            "tpm_limit": BIG,
            "expires": WHEN,
            "metadata": Json(metadata),
            "aliases": Json({}),
        }
    )
    found = await db.litellm_verificationtoken.find_unique(where={"token": PREFIX + "1"})
    assert found is not None
    for row in (created, found):
        equal(row.metadata, metadata)
        equal(row.key_alias, AWKWARD)
        equal(row.models, ["a", AWKWARD])
        equal(row.spend, 1e-9)
        equal(row.tpm_limit, BIG)
        equal(row.expires, STORED)
        equal(row.blocked, None)
    updated = await db.litellm_verificationtoken.update(
        where={"token": PREFIX + "1"},
        data={"spend": {"increment": 2.0}, "tpm_limit": {"increment": 1}, "models": {"push": ["b"]}, "key_alias": None},
    )
    assert updated is not None
    equal((updated.tpm_limit, updated.models, updated.key_alias), (BIG + 1, ["a", AWKWARD, "b"], None))


async def finding(db: Prisma) -> None:
    """Filters, order, paging, counting, grouping, relations."""
    table = db.litellm_verificationtoken
    await db.litellm_budgettable.create(
        data={"budget_id": PREFIX + "b", "max_budget": 3.5, "created_by": "x", "updated_by": "x"}
    )
    made = await table.create_many(
        data=[{"token": f"{PREFIX}f{n}", "spend": float(n), "metadata": Json({"n": n})} for n in range(5)]
    )
    equal(made, 5)
    ours = {"token": {"startswith": PREFIX + "f"}}
    ordered = await table.find_many(where=ours, order=[{"spend": "desc"}], take=2, skip=1)
    equal([row.spend for row in ordered], [3.0, 2.0])
    equal((await table.find_many(where={**ours, "metadata": {"equals": Json({"n": 4})}}))[0].spend, 4.0)
    either = await table.find_many(where={"AND": [ours, {"OR": [{"spend": 1.0}, {"NOT": [{"spend": {"gt": 0}}]}]}]})
    equal(sorted(row.spend for row in either), [0.0, 1.0])
    equal(await table.count(where=ours), 5)
    equal(await table.find_first(where={"token": "none"}), None)
    linked = await table.update(
        where={"token": PREFIX + "f0"},
        data={"litellm_budget_table": {"connect": {"budget_id": PREFIX + "b"}}},
        include={"litellm_budget_table": True},
    )
    assert linked is not None
    assert linked.litellm_budget_table is not None
    equal(linked.litellm_budget_table.max_budget, 3.5)
    by_budget = {"litellm_budget_table": {"is": {"budget_id": PREFIX + "b"}}}
    equal([row.token for row in await table.find_many(where=by_budget)], [PREFIX + "f0"])
    groups = await table.group_by(by=["budget_id"], where=ours, sum={"spend": True}, count=True, order={"budget_id": "asc"})
    equal([(g["budget_id"], g["_sum"]["spend"], g["_count"]["_all"]) for g in groups], [(PREFIX + "b", 0, 1), (None, 10, 4)])
    equal(await table.update_many(where=ours, data={"blocked": True}), 5)
    equal(await table.delete_many(where=ours), 5)


async def upserts(db: Prisma) -> None:
    """The compound-key upsert LiteLLM writes its daily spend with."""
    columns = {
        "user_id": PREFIX + "u",
        "date": "2024-01-02",
        "api_key": "k",
        "model": "m",
        "custom_llm_provider": "p",
        "mcp_namespaced_tool_name": "",
        "endpoint": "",
    }
    for expected in (BIG, 2 * BIG):
        row = await db.litellm_dailyuserspend.upsert(
            where={"_".join(columns): columns},  # type: ignore[typeddict-item, misc]
            data={"create": {**columns, "prompt_tokens": BIG}, "update": {"prompt_tokens": {"increment": BIG}}},
        )
        equal(row.prompt_tokens, expected)


async def batches(db: Prisma) -> None:
    """batch_() is all or nothing."""
    async with db.batch_() as batcher:
        for name in ("x", "y"):
            batcher.litellm_usertable.create(data={"user_id": PREFIX + name, "metadata": Json({"n": name})})
        batcher.litellm_usertable.update_many(where={"user_id": PREFIX + "x"}, data={"spend": {"increment": 4.5}})
    row = await db.litellm_usertable.find_unique_or_raise(where={"user_id": PREFIX + "x"})
    equal((row.spend, row.metadata), (4.5, {"n": "x"}))
    batcher = db.batch_()
    batcher.litellm_usertable.create(data={"user_id": PREFIX + "z"})
    batcher.litellm_usertable.create(data={"user_id": PREFIX + "x"})
    await raises(UniqueViolationError, batcher.commit())
    equal(await db.litellm_usertable.find_unique(where={"user_id": PREFIX + "z"}), None)


async def transactions(db: Prisma) -> None:
    """tx(): commit, rollback, raw SQL inside, expiry."""
    async with db.tx(timeout=timedelta(seconds=5)) as tx:
        await tx.litellm_usertable.create(data={"user_id": PREFIX + "t1"})
        await tx.execute_raw('UPDATE "LiteLLM_UserTable" SET spend = $1 WHERE user_id = $2', 7.25, PREFIX + "t1")
        rows = await tx.query_raw('SELECT spend FROM "LiteLLM_UserTable" WHERE user_id = $1', PREFIX + "t1")
        equal(rows, [{"spend": 7.25}])
        equal(await db.litellm_usertable.find_unique(where={"user_id": PREFIX + "t1"}), None)
    equal((await db.litellm_usertable.find_unique_or_raise(where={"user_id": PREFIX + "t1"})).spend, 7.25)
    try:
        async with db.tx() as tx:
            await tx.litellm_usertable.create(data={"user_id": PREFIX + "t2"})
            raise KeyError
    except KeyError:
        pass
    equal(await db.litellm_usertable.find_unique(where={"user_id": PREFIX + "t2"}), None)

    late = await db.tx(timeout=timedelta(milliseconds=200)).start()
    await asyncio.sleep(0.5)
    await raises(TransactionExpiredError, late.litellm_usertable.count())
    late._tx_id = "unknown"
    await raises(TransactionError, late.litellm_usertable.count())


async def raw(db: Prisma) -> None:
    """Types of raw results."""
    row = (
        await db.query_raw(
            "SELECT $1::text AS t, $2::bigint AS big, $3::jsonb AS j, $4::timestamptz AS w, $5::text[] AS l, "
            "1.25::numeric AS n, count(*) AS c, sum(1.5::float8) AS s, NULL AS nothing, true AS yes, DATE '2024-05-06' AS d",
            AWKWARD,
            BIG,
            Json({"a": [1]}),
            WHEN,
            ["p", AWKWARD],
        )
    )[0]
    equal(
        {**row, "w": datetime.fromisoformat(row["w"])},
        {
            "t": AWKWARD,
            "big": BIG,
            "j": {"a": [1]},
            "w": STORED,
            "l": ["p", AWKWARD],
            "n": 1.25,
            "c": 1,
            "s": 1.5,
            "nothing": None,
            "yes": True,
            "d": "2024-05-06",
        },
    )
    equal(await db.query_raw("SELECT 1 AS a WHERE false"), [])
    equal(await db.execute_raw('UPDATE "LiteLLM_UserTable" SET spend = 1 WHERE user_id LIKE $1', PREFIX + "%"), 3)


async def error_classes(db: Prisma) -> None:
    """Each error arrives as the class prisma-client-py has for it."""
    table = db.litellm_usertable
    await raises(UniqueViolationError, table.create(data={"user_id": PREFIX + "x"}))
    await raises(RecordNotFoundError, table.find_unique_or_raise(where={"user_id": PREFIX + "none"}))
    equal(await table.update(where={"user_id": PREFIX + "none"}, data={"spend": 1.0}), None)
    equal(await table.delete(where={"user_id": PREFIX + "none"}), None)
    await raises(FieldNotFoundError, table.find_many(where={"nope": 1}))  # type: ignore[typeddict-unknown-key]
    await raises(MissingRequiredValueError, db.litellm_spendlogs.create(data={"request_id": PREFIX + "s"}))  # type: ignore[typeddict-item]
    error = await raises(RawQueryError, db.query_raw('SELECT * FROM "NoSuchTable"'))
    assert isinstance(error, RawQueryError)
    equal(error.meta["code"], "42P01")


CHECKS: list[Callable[[Prisma], Awaitable[None]]] = [
    values,
    finding,
    upserts,
    batches,
    transactions,
    raw,
    error_classes,
]


async def main() -> int:
    """Runs every check and returns how many failed."""
    db = Prisma()
    await db.connect()
    failed = 0
    try:
        await clean(db)
        for check in CHECKS:
            try:
                await check(db)
                print(f"ok    {check.__name__}")
            except Exception:
                failed += 1
                print(f"FAIL  {check.__name__}\n{traceback.format_exc()}")
        await clean(db)
    finally:
        await db.disconnect()
    return failed


if __name__ == "__main__":
    sys.exit(1 if asyncio.run(main()) else 0)

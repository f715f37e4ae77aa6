"""The figures of a period, from LiteLLM's tables."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from stack.errors import Problem, RunError
from stack.runtime.database import Database
from stack.usage import period as periods
from stack.usage.period import Period

SQL = Path(__file__).with_name("usage.sql")
DIMENSIONS = ("model", "key", "period", "client")
# What --by takes -> its dimension.
BY = {"key": "key", "model": "model", "day": "period", "client": "client"}
# LiteLLM 1.108's name in its books for the key that administers it.
MASTER_KEY = "litellm_proxy_master_key"


@dataclass(frozen=True)
class Row:
    """The figures of one model, key, period or client, or of all.

    Attributes:
        name: what it is called; empty for all.
        requests: how many there were.
        answered: of these, those that were.
        cancelled: of the others, those whose client went away before the answer began.
        tokens_in: prompts' tokens, of answered requests.
        tokens_out: generated tokens, of answered requests.
        seconds: the times of all answers together.
        latency: p50 and p95 of the time to an answer's end, seconds; None where nothing was answered.
        ttft: p50 and p95 of the time to the first token, seconds, of streams; None where there were none.
    """

    name: str
    requests: int = 0
    answered: int = 0
    cancelled: int = 0
    tokens_in: int = 0
    tokens_out: int = 0
    seconds: float = 0.0
    latency: tuple[float, float] | None = None
    ttft: tuple[float, float] | None = None

    @property
    def errors(self) -> int:
        """Requests that failed although their clients waited."""
        return self.requests - self.answered - self.cancelled

    @property
    def tokens_per_s(self) -> float | None:
        """Generated tokens / seconds of answers: what one request had, its waiting included."""
        return self.tokens_out / self.seconds if self.seconds > 0 else None

    def data(self) -> dict[str, Any]:
        """For --json."""
        return {
            "name": self.name,
            "requests": self.requests,
            "answered": self.answered,
            "errors": self.errors,
            "cancelled": self.cancelled,
            "tokens_in": self.tokens_in,
            "tokens_out": self.tokens_out,
            "tokens_per_s": _round(self.tokens_per_s),
            **{
                f"{name}_{share}_s": _round(pair[index] if pair else None)
                for name, pair in (("latency", self.latency), ("ttft", self.ttft))
                for index, share in enumerate(("p50", "p95"))
            },
        }


@dataclass(frozen=True)
class Usage:
    """The figures of a period.

    Attributes:
        period: which one.
        total: of everything.
        by: rows by dimension; most requests first, periods in their order and without gaps.
        errors: how many requests failed with which status, most first; 499: the client went away.
    """

    period: Period
    total: Row
    by: Mapping[str, Sequence[Row]] = field(default_factory=dict)
    errors: Mapping[str, int] = field(default_factory=dict)


def read(database: Database, period: Period, dimensions: Sequence[str]) -> Usage:
    """Ask the database.

    Args:
        database: LiteLLM's.
        period: what to count.
        dimensions: those of DIMENSIONS that are wanted.

    Raises:
        RunError: it does not answer, or has not LiteLLM's tables.
    """
    variables = {
        "since": periods.utc(period.since),
        "until": periods.utc(period.until),
        "edges": "{" + ",".join(f'"{periods.utc(edge)}"' for edge in period.edges) + "}",
        "dimensions": "{" + ",".join(dimensions) + "}",
    }
    text = database.ask(SQL.read_text("utf-8"), variables)
    try:
        answer = json.loads(text)
    except ValueError:
        raise RunError(Problem("database", f"answered what is no JSON: {text[:200]}")) from None
    return parse(answer, period, dimensions)


def parse(answer: Mapping[str, Any], period: Period, dimensions: Sequence[str]) -> Usage:
    """What usage.sql answered."""
    names = {MASTER_KEY: "(master key)", **key_names(answer["keys"])}
    found: dict[str, list[Row]] = {name: [] for name in (*dimensions, "code", "total")}
    for group in answer["groups"]:
        found[group["dimension"]].append(_row(group))
    by: dict[str, list[Row]] = {}
    for dimension in dimensions:
        rows = found[dimension]
        if dimension == "period":
            by[dimension] = _without_gaps(rows, period)
            continue
        if dimension == "key":
            rows = [_named(row, names.get(row.name, row.name)) for row in rows]
        rows = [row if row.name else _named(row, "(unknown)") for row in rows]
        by[dimension] = sorted(rows, key=lambda row: (-row.requests, row.name))
    codes = sorted(found["code"], key=lambda row: (-row.requests, row.name))
    total = found["total"][0] if found["total"] else Row("")
    return Usage(period, total, by, {row.name or "?": row.requests for row in codes})


def key_names(keys: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """What keys are called: their alias, else the beginning of their hash; never a part of the key itself."""
    return {
        key["token"]: (key["alias"] or f"key {key['token'][:8]}") + (" (deleted)" if key["deleted"] else "") for key in keys
    }


def _row(group: Mapping[str, Any]) -> Row:
    return Row(
        name=group["name"] or "",
        requests=group["requests"],
        answered=group["answered"],
        cancelled=group["cancelled"],
        tokens_in=int(group["tokens_in"]),
        tokens_out=int(group["tokens_out"]),
        seconds=float(group["seconds"]),
        latency=_pair(group["latency"]),
        ttft=_pair(group["ttft"]),
    )


def _pair(values: Sequence[float] | None) -> tuple[float, float] | None:
    return (values[0], values[1]) if values else None


def _named(row: Row, name: str) -> Row:
    return Row(**{**vars(row), "name": name})


def _without_gaps(rows: Sequence[Row], period: Period) -> list[Row]:
    """A row for each edge, in order; width_bucket counts from 1."""
    there = {int(row.name): row for row in rows}
    return [_named(there.get(index + 1, Row("")), period.label(index)) for index in range(len(period.edges))]


def _round(value: float | None) -> float | None:
    return None if value is None else round(value, 3)

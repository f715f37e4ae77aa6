"""What `fit` calculates, against figures that others published of vLLM. UPDATE_DOCS=1 writes the tables of docs/fit.md."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from stack.fit import cache, demand, facts, parts
from stack.fit.facts import Facts
from stack.fit.machine import GIB, Machine, named

REPOSITORY = Path(__file__).resolve().parents[3]
PAGE = REPOSITORY / "docs" / "fit.md"
BEGIN, END = "<!-- published: written by tests/unit/fit/test_published.py -->\n", "<!-- end -->\n"
PUBLISHED: dict[str, list[dict[str, Any]]] = yaml.safe_load(Path(__file__).with_name("published.yml").read_text())


def known(row: dict[str, Any]) -> Facts:
    found = facts.of(row["repository"])
    assert found is not None
    return found


def wanted(row: dict[str, Any], machine: Machine) -> demand.Demand:
    return demand.read(["vllm", "serve", row["repository"], *shlex.split(_quoted(row["flags"]))], {}, machine)


def _quoted(flags: str) -> str:
    return flags.replace("{", "'{").replace("}", "}'")


def tokens(row: dict[str, Any]) -> int:
    machine = named("8x80GB")
    pool = cache.pool(known(row).shape, parts.asked(known(row), wanted(row, machine), machine))
    return int(pool.concurrency(int(row["memory"] * GIB), row["length"]) * row["length"])


def left(row: dict[str, Any]) -> float:
    machine = named(row["gpu"])
    return parts.free(parts.sums_of(known(row), wanted(row, machine), machine)) / GIB


@pytest.mark.parametrize("row", PUBLISHED["cache"], ids=lambda row: row["repository"])
def test_tokens_of_the_cache(row: dict[str, Any]) -> None:
    assert tokens(row) == pytest.approx(row["tokens"], rel=0.01)


def test_most_agree_to_the_token() -> None:
    exact = [row for row in PUBLISHED["cache"] if tokens(row) == row["tokens"]]
    assert len(exact) >= 5


@pytest.mark.parametrize("row", PUBLISHED["loaded"], ids=lambda row: row["repository"])
def test_size_of_the_weights(row: dict[str, Any]) -> None:
    assert known(row).weights / GIB / row["gpus"] == pytest.approx(row["size"], rel=0.07)


@pytest.mark.parametrize("row", PUBLISHED["measured"], ids=lambda row: f"{row['repository']} {row['gpu']}")
def test_memory_left_for_the_cache(row: dict[str, Any]) -> None:
    """The estimated parts: at most 8 % of the GPU off."""
    assert abs(left(row) - row["left"]) < 0.08 * named(row["gpu"]).memory / GIB


def test_the_page_shows_them() -> None:
    page = PAGE.read_text()
    head, rest = page.split(BEGIN)
    tail = rest.split(END)[1]
    made = head + BEGIN + "".join(f"{line}\n" for line in tables()) + END + tail
    if os.environ.get("UPDATE_DOCS"):
        PAGE.write_text(made)
        page = made
    assert page == made


def tables() -> Iterator[str]:
    yield from ("", "Tokens of the KV cache, from the memory that vLLM said it had:", "")
    yield from row("model", "layers", "vLLM", "memory for each GPU", "published", "ours", "error", "source")
    for one in PUBLISHED["cache"]:
        ours, theirs = tokens(one), one["tokens"]
        shown = f"about {theirs:,}" if one.get("rounded") else f"{theirs:,}"
        name = one["repository"].split("/")[1] + (f" ({one['note']})" if "note" in one else "")
        error = f"{(ours / theirs - 1) * 100:+.1f} %" if ours != theirs else "none"
        yield cells(name, one["kind"], one["version"], f"{one['memory']} GiB", shown, f"{ours:,}", error, source(one))
    yield from ("", "Weights in memory (`Model loading took`), for each GPU:", "")
    yield from row("model", "GPUs", "published", "ours", "error", "source")
    for one in PUBLISHED["loaded"]:
        ours_gib = known(one).weights / GIB / one["gpus"]
        error = f"{(ours_gib / one['size'] - 1) * 100:+.1f} %"
        name = one["repository"].split("/")[1]
        yield cells(name, str(one["gpus"]), f"{one['size']} GiB", f"{ours_gib:.2f} GiB", error, source(one))
    yield from ("", "What is left for the cache (`Available KV cache memory`), with the estimated parts in it:", "")
    yield from row("model", "GPU", "vLLM", "published", "ours", "error", "source")
    for one in PUBLISHED["measured"]:
        name, ours_left = one["repository"].split("/")[1], left(one)
        error = f"{ours_left - one['left']:+.1f} GiB"
        yield cells(name, one["gpu"], one["version"], f"{one['left']} GiB", f"{ours_left:.2f} GiB", error, source(one))
    yield ""


def row(*names: str) -> list[str]:
    return [cells(*names), cells(*["---"] * len(names))]


def cells(*texts: str) -> str:
    return f"| {' | '.join(texts)} |"


def source(one: dict[str, Any]) -> str:
    text = str(one["source"])
    return f"[link]({text})" if text.startswith("https://") else text

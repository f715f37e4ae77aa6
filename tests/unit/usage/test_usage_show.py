"""The figures as a table, CSV, JSON and a page."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable
from datetime import UTC, datetime
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from stack import cli
from stack.errors import ConfigError
from stack.runtime import database
from stack.runtime.database import Database
from stack.runtime.layout import Layout
from stack.usage import charts, page, period, query, show, table, texts
from stack.usage.query import BY, Row, Usage

NOW = datetime(2026, 11, 26, 13, 30, tzinfo=UTC)
EVIL = '</title><script>alert(1)</script>\x1b[31m"&=cmd'
ROW = Row("m", 10, 7, 1, 1000, 300, 60.0, (1.234, 12.3), (0.0456, 0.9))


def usage(*rows: Row, by: str = "model", errors: dict[str, int] | None = None) -> Usage:
    when = period.of(period.since("3d", NOW), NOW)
    days = [Row(when.label(index), index * 4, index * 3, 0, 9, 9, 1.0) for index in range(len(when.edges))]
    total = Row("", *(sum(getattr(row, name) for row in rows) for name in ("requests", "answered", "cancelled")))
    found: dict[str, list[Row]] = {name: [] for name in query.DIMENSIONS}
    found |= {"period": days} | {BY[by]: list(rows)}
    return Usage(when, total, found, errors or {})


def shown(one: Usage, by: str = "model", width: int = 130) -> str:
    console = Console(file=io.StringIO(), width=width, no_color=True)
    table.show(one, by, console)
    return str(console.file.getvalue())  # type: ignore[attr-defined]


def test_a_table_has_bars_and_a_total(zone: Callable[[str], None]) -> None:
    zone("UTC")
    text = shown(usage(ROW, Row("other", 5, 5), errors={"429": 2, "418": 1}))
    lines = [line.rstrip() for line in text.splitlines()]
    assert lines[0] == "usage since Tue 2026-11-24 00:00 UTC, by model"
    assert re.sub(" +", " ", lines[2]) == f"m {'█' * 18} 10 2 1 1,000 300 5.0 0.05 / 0.90 1.2 / 12"
    assert f"other  {'█' * 9} " in lines[3]
    assert lines[4].split()[:2] == ["total", "15"]
    assert "not answered: 2 x 429 (over the key's limit), 1 x 418" in text


def test_an_empty_table() -> None:
    text = shown(usage())
    assert re.search(r"total +0 +0 +0", text)
    assert "no requests in this time" in text
    assert "no requests" not in shown(usage(Row("m", 1)))


def test_a_long_table_says_what_it_leaves_out() -> None:
    text = shown(usage(*(Row(f"k{index}", 100 - index) for index in range(40)), by="key"), "key")
    assert "k29 " in text
    assert "k30 " not in text
    assert "and 10 more" in text


@pytest.mark.parametrize("width", [160, 120, 100, 80])
def test_a_table_fits_the_terminal(width: int) -> None:
    rows = [Row("a-model-with-a-long-name", 31_138, 30_784, 71, 377_293_840, 11_607_366, 9e5, (6.9, 18.2), (0.7, 1.25))]
    text = shown(usage(*rows), width=width)
    lines = text.splitlines()
    assert max(len(line.rstrip()) for line in lines) <= width
    assert "…" not in text
    assert lines[2].startswith("a-model-with-")
    assert "31,138" in lines[2]
    assert ("377,293,840" in text) == (width > 130)
    assert ("377M" in text) == (width < 130)


def test_the_terminal_is_not_commanded() -> None:
    text = shown(usage(Row(f"[red]{EVIL}", 1)))
    assert "\x1b" not in text
    assert "[red]" in text


@pytest.mark.parametrize(("count", "expected"), [(0, ""), (1, "▏"), (500, "█" * 9), (1000, "█" * 18)])
def test_bars(count: int, expected: str) -> None:
    assert table.bar(count, 1000, 18) == expected


def test_csv() -> None:
    text = show.as_csv(usage(ROW, Row("=1+1", 1), Row('a,"b', 1)), "model")
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [row["model"] for row in rows] == ["m", "'=1+1", 'a,"b']
    assert {name: rows[0][name] for name in ("requests", "errors", "tokens_out", "ttft_p95_s")} == {
        "requests": "10",
        "errors": "2",
        "tokens_out": "300",
        "ttft_p95_s": "0.9",
    }
    assert show.as_csv(usage(), "model") == text.splitlines()[0] + "\n"


class Page(HTMLParser):
    """What a browser would make of it."""

    VOID = ("meta", "col")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.add(tag)
        self.text += "".join(f" {value}" for name, value in attrs if name in ("aria-label", "title"))
        assert not {name for name, _ in attrs} & {"href", "src", "onclick", "onload"}
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_a_page_stands_alone_and_escapes_what_came_with_requests() -> None:
    one = usage(Row(EVIL, 10, 5), errors={EVIL[:20]: 5})
    text = page.render(one)
    found = Page(text)
    assert found.open == []
    assert "script" not in found.tags
    assert "link" not in found.tags
    assert not re.search(r"https?:|@import|url\(", text)
    assert EVIL.replace("\x1b", "?") in found.text
    assert found.text.count("Requests by day") == 2
    assert "\x1b" not in text


def test_a_page_of_nothing() -> None:
    assert "0 requests" in Page(page.render(usage())).text


def test_a_page_tells_the_rest_together() -> None:
    rows = [Row(f"k{index}", 100, 90, tokens_out=2) for index in range(25)]
    text = Page(page.render(usage(*rows, by="key"))).text
    assert "k19" in text
    assert "k20" not in text
    assert "5 more500" in text


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0, "0"), (940, "940"), (999.9, "1k"), (12540, "12.5k"), (999_999, "1M"), (446_000_000, "446M"), (2.5e12, "2,500G")],
)
def test_short_numbers(value: float, expected: str) -> None:
    assert texts.short(value) == expected


def test_stacked_bars_stand_on_each_other() -> None:
    series = [charts.Series("in", "in", [30, 0]), charts.Series("out", "out", [10, None])]
    text = charts.stacked("h", ["a", "b"], series, texts.short)
    boxes = [(float(y), float(high)) for y, high in re.findall(r'<rect [^>]* y="([\d.]+)" [^>]*height="([\d.]+)"', text)]
    assert len(boxes) == 2
    (low, below), (high, above) = boxes
    assert high + above == pytest.approx(low, abs=0.1)
    assert below == pytest.approx(3 * above, abs=0.2)
    assert "a: in 30, out 10" in text


def test_lines_have_gaps() -> None:
    text = charts.lines("h", list("abcde"), [charts.Series("p50", "p50", [1, 2, None, 3, 4])], texts.short)
    assert text.count("<polyline") == 2
    assert text.count("<circle") == 4


@pytest.fixture
def asked(books: Database, monkeypatch: pytest.MonkeyPatch) -> Database:
    monkeypatch.setattr(database, "find", lambda *_: books)
    return books


def test_everything_from_one_command(
    asked: Database, add: Callable[..., None], folder: Layout, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    add(f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S}", api_key="a" * 64)
    html = tmp_path / "usage.html"
    assert show.run(folder, None, by="model", since="1h", form="json", html=str(html)) == 0
    data = json.loads(capsys.readouterr().out)
    assert (data["by"], data["total"]["requests"], data["rows"][0]["name"]) == ("model", 1, "m")
    assert "1 requests" in Page(html.read_text()).text
    assert show.run(folder, None, by="day", since="2d", form="csv") == 0
    assert len(capsys.readouterr().out.splitlines()) == 3


def test_a_page_without_a_place_is_refused_before_anything_is_asked(folder: Layout) -> None:
    with pytest.raises(ConfigError, match="folder that is there"):
        show.run(folder, None, by="model", since="1h", html="/nowhere/usage.html")


@pytest.mark.parametrize("command", [["usage"], ["backup"]])
def test_without_a_database(
    command: list[str], folder: Layout, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Layout, "from_environ", lambda _: folder)
    monkeypatch.setattr(cli, "_runtime", lambda *_, **__: SimpleNamespace(name="native"))
    assert cli.main(command) == 1
    assert "error: database: is not running" in capsys.readouterr().err

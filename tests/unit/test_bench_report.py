"""A benchmark's result as file, table and page, next to an earlier one."""

from __future__ import annotations

import io
import json
import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from stack import html_page
from stack.bench import page, report
from stack.bench.report import Result, Row
from stack.errors import ConfigError


def times(p50: float) -> dict[str, float | None]:
    return {"p50": p50, "p95": p50 * 2, "p99": p50 * 3}


def row(side: str, concurrency: int, tokens: float, **changes: Any) -> Row:
    return replace(
        Row(side, concurrency, 8, 0, "", 2.0, tokens, tokens / 10, times(120), times(4.25), times(900), ("vllm", "bench")),
        **changes,
    )


@pytest.fixture
def result() -> Result:
    return Result(
        date="2026-11-24T16:05:09+00:00",
        model="m",
        runtime="native",
        command="./runMe.sh bench --concurrency 1,4",
        machine={"cores": 2, "arch": "x86_64", "cpu": "Some <CPU>", "gpu": ""},
        versions={"vllm": "0.32.0", "litellm": "1.108.7"},
        settings={"route": "chat", "input_tokens": 128, "output_tokens": 32},
        rows=(row("direct", 1, 50), row("gateway", 1, 45), row("gateway", 4, 80), row("direct", 4, 100)),
    )


def table(result: Result, earlier: Result | None = None) -> str:
    out = io.StringIO()
    report.show(result, earlier, Console(file=out, width=240))
    return out.getvalue()


def test_ratio_is_gateway_over_direct(result: Result) -> None:
    assert [result.ratio(1), result.ratio(4), result.ratio(16)] == [0.9, 0.8, None]
    assert result.data()["ratio_gateway_direct"] == {"1": 0.9, "4": 0.8}


def test_no_ratio_where_one_side_has_no_answer(result: Result) -> None:
    rows = (row("direct", 1, 50), row("gateway", 1, 0), row("direct", 4, 0), row("gateway", 4, 80))
    failed = replace(result, rows=rows)
    assert (failed.ratio(1), failed.ratio(4)) == (None, None)


def test_a_saved_result_is_read_back(result: Result, tmp_path: Path) -> None:
    path = report.save(result, tmp_path)
    assert path.name == "load-20261124-160509.json"
    back = report.read(str(path), tmp_path)
    assert json.loads(json.dumps(back.data())) == json.loads(path.read_text()) == json.loads(json.dumps(result.data()))


def test_last_is_the_newest(result: Result, tmp_path: Path) -> None:
    for date in ("2026-11-24T16:05:09+00:00", "2026-12-01T00:00:00+00:00", "2026-11-30T23:59:59+00:00"):
        report.save(replace(result, date=date), tmp_path)
    assert report.read("last", tmp_path).date == "2026-12-01T00:00:00+00:00"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "No such file"),
        ("", "is no result"),
        ("{}", "is no result"),
        ('{"rows": [1]}', "is no result"),
        ("[]", "is no"),
    ],
)
def test_what_cannot_be_compared_with_is_the_users_error(text: str | None, message: str, tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        report.read(str(path), tmp_path)


def test_nothing_was_measured_yet(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no result in"):
        report.read("last", tmp_path)


def test_change_in_percent() -> None:
    assert [report.change(110, 100), report.change(75, 100), report.change(100, 100)] == ["+10 %", "-25 %", "+0 %"]
    assert [report.change(1, 0), report.change(1, None), report.change(None, 1)] == ["", "", ""]


def test_differences_name_what_else_changed(result: Result) -> None:
    earlier = replace(
        result, model="n", versions={"vllm": "0.31.0", "litellm": "1.108.7"}, machine={**result.machine, "cores": 8}
    )
    assert report.differences(result, earlier) == [
        "model: n then, m now",
        "cores: 8 then, 2 now",
        "vllm: 0.31.0 then, 0.32.0 now",
    ]
    assert report.differences(result, result) == []


def test_table(result: Result) -> None:
    lines = [re.sub(r"  +", "  ", line).strip() for line in table(result).splitlines()]
    assert lines[0] == "m, chat, 128 tokens in, 32 out"
    assert lines[2:6] == [
        "1  direct  50.0  5.00  120 / 240 / 360  4.2 / 8.5 / 12.8  900 / 1800 / 2700  0",
        "gateway  45.0  4.50  120 / 240 / 360  4.2 / 8.5 / 12.8  900 / 1800 / 2700  0  0.900",
        "4  direct  100.0  10.00  120 / 240 / 360  4.2 / 8.5 / 12.8  900 / 1800 / 2700  0",
        "gateway  80.0  8.00  120 / 240 / 360  4.2 / 8.5 / 12.8  900 / 1800 / 2700  0  0.800",
    ]
    assert lines[6] == "2 cores, x86_64, Some <CPU>, no GPU, vllm 0.32.0, litellm 1.108.7, 2026-11-24"


def test_table_next_to_an_earlier_one(result: Result) -> None:
    earlier = replace(result, rows=(row("direct", 1, 40, ttft_ms=times(240)),))
    text = table(result, earlier)
    assert "50.0 (+25 %)" in text
    assert "120 / 240 / 360 (-50 %)" in text
    assert text.count("%") == 5  # the other rows have nothing to be compared with


def test_table_says_what_failed(result: Result) -> None:
    broken = replace(result, rows=(row("gateway", 4, 80, errors=3, error="Too Many [Requests]"),))
    text = table(broken)
    assert "3 of 8" in text
    assert "gateway, 4 at once: Too Many [Requests]" in text


def svgs(text: str) -> list[ET.Element]:
    return [ET.fromstring(one) for one in re.findall(r"<svg viewBox=\"0 0 460.*?</svg>", text, re.DOTALL)]


def test_page_needs_nothing_from_elsewhere(result: Result) -> None:
    text = page.render(result)
    assert not re.search(r"(src|href)=|url\(|@import|<script", text)
    assert "Some &lt;CPU&gt;" in text
    assert "Some <CPU>" not in text
    assert "prefers-color-scheme:dark" in text


def test_page_has_a_plot_for_each_figure(result: Result) -> None:
    plots = svgs(page.render(result))
    assert [plot.get("aria-label") for plot in plots] == [
        "Output tokens a second",
        "Time to the first token, ms",
        "Time per further token, ms",
        "Time to the end of the answer, ms",
    ]
    assert [line.get("class") for line in plots[0].iter("polyline")] == ["direct solid", "gateway solid"]
    assert [line.get("class") for line in plots[1].iter("polyline")] == [
        "direct solid", "direct dashed", "gateway solid", "gateway dashed",
    ]  # fmt: skip
    titles = [title.text for title in plots[0].iter("title")]
    assert titles == ["direct: 50.0", "direct: 100.0", "gateway: 45.0", "gateway: 80.0"]


def test_higher_values_are_drawn_higher(result: Result) -> None:
    circles = list(svgs(page.render(result))[0].iter("circle"))
    one, four = (float(circle.get("cy", "")) for circle in circles[:2])
    assert four < one
    assert abs(four - page.TOP) < 0.1  # 100 is the highest tick
    assert float(circles[0].get("cx", "")) < float(circles[1].get("cx", ""))


def test_page_next_to_an_earlier_one(result: Result) -> None:
    text = page.render(result, replace(result, rows=(row("direct", 1, 40),)))
    assert [line.get("class") for line in svgs(text)[0].iter("polyline")] == [
        "direct solid",
        "direct earlier",
        "gateway solid",
    ]
    assert "<td>50.0 <small>+25 %</small></td>" in text


def test_page_names_failures_and_leaves_their_points_out(result: Result) -> None:
    none = {"p50": None, "p95": None, "p99": None}
    broken = row("gateway", 4, 0, errors=8, error="<reset>", ttft_ms=none, tpot_ms=none, e2e_ms=none)
    text = page.render(replace(result, rows=(row("direct", 4, 100), broken)))
    assert "gateway, 4 at once: 8 of 8, first: &lt;reset&gt;" in text
    assert "Failed requests" not in page.render(result)
    assert [line.get("class") for line in svgs(text)[0].iter("polyline")] == ["direct solid"]
    assert "- / - / -" in text


@pytest.mark.parametrize(
    ("highest", "expected"),
    [
        (100, [0, 25, 50, 75, 100]),
        (101, [0, 50, 100, 150]),
        (7, [0, 2, 4, 6, 8]),
        (0.9, [0, 0.25, 0.5, 0.75, 1.0]),
        (0, [0, 1]),
    ],
)
def test_ticks_are_round(highest: float, expected: list[float]) -> None:
    assert html_page.ticks(highest) == pytest.approx(expected)

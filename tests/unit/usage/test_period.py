"""`--since` and the days of this machine, across summer time."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from stack.errors import ConfigError
from stack.usage import period

NOW = datetime(2026, 11, 26, 13, 30, tzinfo=UTC)
Zone = Callable[[str], None]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("90m", "2026-11-26 12:00:00.000"),
        ("24h", "2026-11-25 13:30:00.000"),
        ("1d", "2026-11-25 23:00:00.000"),
        ("7d", "2026-11-19 23:00:00.000"),
        ("2w", "2026-11-12 23:00:00.000"),
        ("2026-11-01", "2026-10-31 23:00:00.000"),
        ("2026-07-01", "2026-06-30 22:00:00.000"),
        ("0099-01-01", "2022-12-31 23:00:00.000"),
        ("9999w", "2022-12-31 23:00:00.000"),
        ("2026-11-01T08:30", "2026-11-01 07:30:00.000"),
    ],
)
def test_since_in_berlin(zone: Zone, text: str, expected: str) -> None:
    zone("Europe/Berlin")
    assert period.utc(period.since(text, NOW)) == expected


@pytest.mark.parametrize(
    "text", ["", "7", "d", "0d", "-1d", "7x", "2026-13-01", "2026-11-1", "yesterday", "2027-01-01", "7D", "999999w"]
)
def test_what_is_no_time_is_named(text: str) -> None:
    with pytest.raises(ConfigError) as error:
        period.since(text, NOW)
    assert f"--since {text}" in str(error.value)


@pytest.mark.parametrize(
    ("begin", "hours"),
    [("2026-10-24", [24, 25, 24]), ("2026-03-28", [24, 23, 24])],
    ids=["the clocks go back", "the clocks go forward"],
)
def test_days_begin_at_midnight_whatever_the_clocks_do(zone: Zone, begin: str, hours: list[int]) -> None:
    zone("Europe/Berlin")
    found = period.of(period.since(begin, NOW), NOW, "day")
    lengths = [(b - a) / timedelta(hours=1) for a, b in zip(found.edges, found.edges[1:4], strict=False)]
    assert lengths[:3] == hours
    assert all((edge.hour, edge.minute) == (0, 0) for edge in found.edges)
    assert [found.label(index) for index in range(2)] == [begin, f"{begin[:8]}{int(begin[8:]) + 1}"]


def test_hours_are_not_lost_when_the_clocks_go_back(zone: Zone) -> None:
    zone("Europe/Berlin")
    begin = datetime(2026, 10, 24, 22, 0, tzinfo=UTC)
    found = period.of(begin, begin + timedelta(hours=25))
    assert found.unit == "hour"
    assert len(found.edges) == 25
    assert {b - a for a, b in zip(found.edges, found.edges[1:], strict=False)} == {timedelta(hours=1)}


def test_hours_of_a_zone_with_half_an_hour(zone: Zone) -> None:
    zone("Asia/Kolkata")
    found = period.of(period.since("3h", NOW), NOW)
    assert [f"{edge:%H:%M}" for edge in found.edges] == ["16:00", "17:00", "18:00"]


@pytest.mark.parametrize(("days", "unit"), [(1, "hour"), (30, "day"), (365, "week"), (2000, "month")])
def test_a_page_shows_what_fits(zone: Zone, days: int, unit: str) -> None:
    zone("UTC")
    begin = NOW - timedelta(days=days)
    found = period.of(begin, NOW)
    assert found.unit == unit
    assert len(found.edges) <= 105
    assert found.edges[0] == begin
    if unit == "week":
        assert {edge.weekday() for edge in found.edges[1:]} == {0}
    if unit == "month":
        assert {edge.day for edge in found.edges[1:]} == {1}

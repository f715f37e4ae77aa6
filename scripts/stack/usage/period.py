"""From `--since` to instants, and the days, hours or weeks between them. Pure, but for the machine's time zone."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from stack.errors import ConfigError, Problem

_AGO = re.compile(r"([1-9]\d{0,4})([mhdw])")
_DATE = re.compile(r"(\d{4}-\d\d-\d\d)(?:[T ](\d\d:\d\d))?")
# There was no LiteLLM before.
_FIRST = date(2023, 1, 1)
_UNITS = {"m": timedelta(minutes=1), "h": timedelta(hours=1)}
_DAYS = {"d": 1, "w": 7}
# Up to how many days a page shows hours, days, weeks; beyond: months.
_HOURS_UP_TO, _DAYS_UP_TO, _WEEKS_UP_TO = 2, 100, 700


@dataclass(frozen=True)
class Period:
    """What a report is of.

    Attributes:
        since: its beginning, with the machine's offset from UTC at that time.
        until: its end, not included.
        unit: what it is divided into: hour, day, week or month.
        edges: where these begin, ascending; the first one is `since` itself.
    """

    since: datetime
    until: datetime
    unit: str
    edges: tuple[datetime, ...]

    def label(self, index: int) -> str:
        """What edge `index` is called: 2026-11-26, or with its time if it is an hour."""
        return self.edges[index].strftime("%Y-%m-%d %H:%M" if self.unit == "hour" else "%Y-%m-%d")


def since(text: str, now: datetime) -> datetime:
    """When `--since` means.

    Args:
        text: 90m, 24h (so long ago), 7d, 4w (so many days, today among them), 2026-11-01 or 2026-11-01T08:00 (local time).
        now: with a time zone.

    Raises:
        ConfigError: it is none of these, or in the future.
    """
    place = f"--since {text}"
    ago, day = _AGO.fullmatch(text), _DATE.fullmatch(text)
    try:
        if ago and ago[2] in _UNITS:
            found = _local(now - int(ago[1]) * _UNITS[ago[2]])
        elif ago:
            found = midnight(_local(now).date() - timedelta(days=int(ago[1]) * _DAYS[ago[2]] - 1))
        elif day:
            found = datetime.fromisoformat(f"{day[1]}T{day[2] or '00:00'}").astimezone()
        else:
            raise ConfigError(Problem(place, "is no time", "90m, 24h, 7d, 4w, 2026-11-01 or 2026-11-01T08:00"))
    except (ValueError, OverflowError):
        raise ConfigError(Problem(place, "is no date there is")) from None
    if found > now:
        raise ConfigError(Problem(place, "is in the future"))
    return max(found, midnight(_FIRST))


def of(begin: datetime, now: datetime, unit: str = "") -> Period:
    """The period from `begin` to now.

    Args:
        begin: from `since`.
        now: with a time zone.
        unit: what to divide it into; empty: by its length.
    """
    days = (now - begin) / timedelta(days=1)
    if not unit:
        steps = (("hour", _HOURS_UP_TO), ("day", _DAYS_UP_TO), ("week", _WEEKS_UP_TO))
        unit = next((name for name, most in steps if days <= most), "month")
    edges = [_local(begin)]
    while (following := _next(edges[-1], unit)) < now:
        edges.append(following)
    return Period(edges[0], _local(now), unit, tuple(edges))


def midnight(day: date) -> datetime:
    """When a day begins on this machine: days of 23 and 25 hours begin at midnight too."""
    return datetime(day.year, day.month, day.day).astimezone()


def utc(instant: datetime) -> str:
    """An instant as LiteLLM keeps it: UTC, without saying so."""
    return instant.astimezone(UTC).replace(tzinfo=None).isoformat(" ", "milliseconds")


def _next(edge: datetime, unit: str) -> datetime:
    """The beginning of the hour, day, week (Monday) or month after an instant."""
    if unit == "hour":
        following = edge.astimezone(UTC) + timedelta(hours=1)
        begin = _local(following).replace(minute=0, second=0, microsecond=0)
        return begin if begin > edge else _local(following)
    day = edge.date()
    if unit == "day":
        return midnight(day + timedelta(days=1))
    if unit == "week":
        return midnight(day + timedelta(days=7 - day.weekday()))
    return midnight(date(day.year + day.month // 12, day.month % 12 + 1, 1))


def _local(instant: datetime) -> datetime:
    """The same instant, with the machine's own offset at that time, summer time or not."""
    return instant.astimezone()

"""When a line of a log was printed: the formats of vLLM, LiteLLM, PostgreSQL and of this project. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

DAY = 86400.0
# What a terminal would obey instead of showing it.
_COLOUR = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|\x1b[@-_]")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_PROCESS = r"(?:\([^()]+ pid=\d+\) |\[rank\d+\]: ?)*"
# vLLM: `(APIServer pid=7) INFO 11-26 16:51:49 [launcher.py:1] ...`; without the level the engine's line for an answer.
_VLLM = re.compile(_PROCESS + r"(?:[A-Z]+ )?(\d\d)-(\d\d) (\d\d):(\d\d):(\d\d) ")
# PostgreSQL (with its zone), the gateway's line for an answer, the supervisor, Open WebUI, Docker.
_FULL = re.compile(r"(\d{4}-\d\d-\d\d)[ T](\d\d:\d\d:\d\d)(?:[.,](\d{1,9}))?(?: ?(UTC|Z|[+-]\d\d:?\d\d))?\b ?")
# LiteLLM: `16:55:40 - LiteLLM Proxy:WARNING: ...`
_CLOCK = re.compile(r"(\d\d):(\d\d):(\d\d) - ")
_ERROR = re.compile(
    _PROCESS + r"(\d\d-\d\d \d\d:\d\d:\d\d )?(ERROR|CRITICAL)\b|.*?\b(ERROR|FATAL|PANIC): |(error|\w+(Error|Exception)): "
)
# LiteLLM asks its views so whether they are there, and makes those that are not (litellm/proxy/db/create_views.py).
_ASKED = re.compile(
    r'.*ERROR:  relation "(LiteLLM_VerificationTokenView|DailyTagSpend|MonthlyGlobalSpend(PerKey|PerUserPerKey)?'
    r'|Last30d(KeysBySpend|ModelsBySpend|TopEndUsersSpend))" does not exist'
)


@dataclass(frozen=True)
class Line:
    """A line of a part's log.

    Attributes:
        time: when it was printed, or the line before it that says so; seconds of the epoch.
        part: who printed it.
        text: without its end, colours and control characters.
    """

    time: float
    part: str
    text: str


def clean(text: str) -> str:
    """A line as it may be printed on a terminal."""
    return _CONTROL.sub("", _COLOUR.sub("", text)) if not text.isprintable() else text


def is_error(text: str) -> bool:
    """Whether a line says that something went wrong."""
    return bool(_ERROR.match(text)) and not _ASKED.match(text)


def stamped(part: str, texts: Iterable[str], newest: float) -> Iterator[Line]:
    """Lines with their times. One without a time belongs to the one before it; those before the first, to that.

    Args:
        part: who printed them.
        texts: lines, oldest first.
        newest: when the last one was printed, seconds of the epoch; tells the year, and the day where a line has none.
    """
    clock = Clock(newest)
    early: list[str] = []
    for raw in texts:
        text = clean(raw)
        found = clock.read(text)
        if not found:
            early.append(text)
            continue
        for one in early:
            yield Line(found, part, one)
        early.clear()
        yield Line(found, part, text)
    for one in early:
        yield Line(newest, part, one)


class Clock:
    """Reads the times of one log, which never go back."""

    def __init__(self, newest: float) -> None:
        self._newest = newest
        self._last = 0.0

    def read(self, text: str) -> float:
        """When a line was printed, as far as known: else when the one before was; 0 while none is known."""
        found = self._stamp(text)
        # What a client or a model wrote may look like a time.
        if found and found <= self._newest + DAY:
            self._last = max(self._last, found)
        return self._last

    def _stamp(self, text: str) -> float:
        try:
            if full := _FULL.match(text):
                return _full(*full.groups())
            if short := _VLLM.match(text):
                return self._with_year(*map(int, short.groups()))
            if clock := _CLOCK.match(text):
                return self._with_day(*map(int, clock.groups()))
        except (ValueError, OverflowError):
            pass
        return 0.0

    def _with_year(self, month: int, day: int, hour: int, minute: int, second: int) -> float:
        year = datetime.fromtimestamp(self._newest).year
        found = datetime(year, month, day, hour, minute, second).timestamp()
        if found > self._newest + DAY:  # printed before New Year
            found = datetime(year - 1, month, day, hour, minute, second).timestamp()
        return found

    def _with_day(self, hour: int, minute: int, second: int) -> float:
        near = datetime.fromtimestamp(self._last or self._newest)
        found = near.replace(hour=hour, minute=minute, second=second, microsecond=0)
        if self._last and found.timestamp() < self._last - DAY / 2:
            found += timedelta(days=1)
        elif not self._last and found.timestamp() > self._newest + 60:
            found -= timedelta(days=1)
        return found.timestamp()


def split_docker(raw: str, fallback: float = 0.0) -> tuple[float, str]:
    """The time that `docker logs --timestamps` put before a line, and the line."""
    found = _FULL.match(raw)
    if found is None:
        return fallback, raw
    try:
        return _full(*found.groups()), raw[found.end() :]
    except ValueError:
        return fallback, raw


def _full(date: str, clock: str, fraction: str | None, zone: str | None) -> float:
    moment = datetime.fromisoformat(f"{date}T{clock}")
    if zone:
        moment = moment.replace(tzinfo=_zone(zone))
    return moment.timestamp() + (float(f"0.{fraction}") if fraction else 0.0)


def _zone(text: str) -> timezone:
    if text in ("UTC", "Z"):
        return timezone.utc  # noqa: UP017 - the type is wanted
    sign = -1 if text[0] == "-" else 1
    return timezone(sign * timedelta(hours=int(text[1:3]), minutes=int(text[-2:])))

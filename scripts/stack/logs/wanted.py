"""Which lines are wanted: `--since`, `--grep`, `--request`. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime

from stack.errors import ConfigError, Problem
from stack.logs.lines import Line

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
# What vLLM puts before a request's id, and LiteLLM's answers bear.
_PREFIX = re.compile(r"^(chatcmpl-|cmpl-|resp_)")


@dataclass(frozen=True)
class Wanted:
    """What is looked for.

    Attributes:
        since: seconds of the epoch; 0: from the beginning.
        pattern: what a line has to match, or None.
        request: what a line has to contain, or empty.
    """

    since: float = 0.0
    pattern: re.Pattern[str] | None = None
    request: str = ""

    @property
    def searches(self) -> bool:
        """Whether lines are chosen by what they say."""
        return bool(self.pattern or self.request)

    def takes(self, line: Line) -> bool:
        """Whether a line is wanted."""
        return (
            line.time >= self.since
            and self.request in line.text
            and (self.pattern is None or bool(self.pattern.search(line.text)))
        )


def make(since: str, grep: str, request: str, now: float) -> Wanted:
    """From what was typed.

    Args:
        since: `10m`, `2h`, `1d`, `30s`, or a time such as 2026-11-26T16:50; empty: all.
        grep: a regular expression, or empty.
        request: a request's id, also as an answer has it (chatcmpl-...), or empty.
        now: seconds of the epoch.

    Raises:
        ConfigError: one of them makes no sense.
    """
    problems = []
    moment, pattern = 0.0, None
    try:
        moment = _moment(since, now) if since else 0.0
    except (ValueError, OverflowError):
        problems.append(Problem(f"--since {since}", "is no time", "such as 10m, 2h, 1d, or 2026-11-26T16:50"))
    try:
        pattern = re.compile(grep) if grep else None
    except re.error as error:
        problems.append(Problem(f"--grep {grep}", f"is no regular expression: {error}"))
    if problems:
        raise ConfigError(*problems)
    return Wanted(moment, pattern, _PREFIX.sub("", request.strip()))


def _moment(text: str, now: float) -> float:
    ago = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", text.strip())
    if ago:
        return now - float(ago[1]) * _UNITS[ago[2]]
    return datetime.fromisoformat(text.strip()).timestamp()

"""What a load generator's clients saw, and the figures made of it."""

from __future__ import annotations

import collections
from typing import Any, Protocol

_SHARES = (("p50", 0.50), ("p95", 0.95), ("p99", 0.99))


def percentile(values: list[float], share: float) -> float | None:
    """Nearest-rank percentile; None of nothing."""
    if not values:
        return None
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def milliseconds(values: list[float]) -> dict[str, float | None]:
    """Percentiles of seconds, in milliseconds."""
    found = {name: percentile(values, share) for name, share in _SHARES}
    return {name: None if value is None else round(1000 * value, 2) for name, value in found.items()}


class Ended(Protocol):
    """An answer that has ended, as a client keeps it."""

    measured: bool
    status: int
    tokens: int
    expected: int
    sent: float
    longest: float
    failed: bytes


class Result:
    """What all clients saw.

    Attributes:
        begin: when the measurement begins, on time.perf_counter's clock; so is `until`, when it ends.
        tokens: that arrived meanwhile.
        first: seconds to the first token, of every answer that was begun.
        whole: seconds to the end, of every answer that has ended well.
        pauses: the longest pause between two arrivals in each stream, seconds.
        statuses: how many answers had which status; 0: none came.
        short: answers with status 200 without all their tokens.
        answered: answers with status 200 and all their tokens, short first ones included.
        answered_tokens: tokens in them.
        trouble: what the first failure said.
    """

    def __init__(self) -> None:
        self.begin = self.until = self.seconds = 0.0
        self.tokens = self.short = self.answered = self.answered_tokens = 0
        self.first: list[float] = []
        self.whole: list[float] = []
        self.pauses: list[float] = []
        self.statuses: collections.Counter[int] = collections.Counter()
        self.trouble = ""

    def start(self, begin: float, seconds: float) -> None:
        """Say when the measurement begins and how long it is."""
        self.begin, self.until, self.seconds = begin, begin + seconds, seconds

    def ended(self, answer: Ended, now: float) -> None:
        """Take in an answer that has ended."""
        complete = answer.status == 200 and answer.tokens == answer.expected
        if complete:
            self.answered += 1
            self.answered_tokens += answer.tokens
        elif not self.trouble:
            said = answer.failed.decode("utf-8", "replace") or f"{answer.tokens} of {answer.expected} tokens"
            self.trouble = f"status {answer.status}: {said[:300]}"
        if answer.measured or not complete:
            self.statuses[answer.status] += 1
            self.short += answer.status == 200 and not complete
        if answer.measured and complete:
            self.whole.append(now - answer.sent)
            self.pauses.append(answer.longest)

    @property
    def errors(self) -> int:
        """Answers that failed."""
        return self.short + sum(count for status, count in self.statuses.items() if status != 200)

    def summary(self) -> dict[str, Any]:
        """Figures in tokens/s, requests/s and milliseconds."""
        found: dict[str, Any] = {
            "tokens_per_s": round(self.tokens / self.seconds),
            "requests_per_s": round(len(self.whole) / self.seconds, 1),
            "first_ms": milliseconds(self.first),
            "whole_ms": milliseconds(self.whole),
            "longest_pause_ms": milliseconds(self.pauses),
            "statuses": {str(key): value for key, value in sorted(self.statuses.items())},
            "short": self.short,
            "errors": self.errors,
        }
        return {**found, "trouble": self.trouble} if self.trouble else found

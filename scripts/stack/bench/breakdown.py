"""Where the seconds of a start go: pure, from moments to spans and their bars."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from stack.engine_phase import DEAD, READY, STOPPING

WIDTH = 30
# Moments in seconds since the command was typed, in the order of the story.
CHECKED, STARTED, LISTENS, ANSWERED = "checked", "engine started", "engine listens", "stack"
DATABASE, GATEWAY = "database", "gateway"


@dataclass
class Start:
    """One start of the stack.

    Attributes:
        moments: name -> seconds since the command was typed.
        phases: (seconds, name) for each phase the engine told of, oldest first.
        memory: part -> bytes (PSS) when the first answer had come.
    """

    moments: dict[str, float] = field(default_factory=dict)
    phases: list[tuple[float, str]] = field(default_factory=list)
    memory: dict[str, int] = field(default_factory=dict)

    def data(self) -> dict[str, Any]:
        """For JSON: seconds and bytes."""
        return {
            "moments": {name: round(value, 3) for name, value in self.moments.items()},
            "spans": [
                {"name": one.name, "begin": round(one.begin, 3), "end": round(one.end, 3), "seconds": round(one.seconds, 3)}
                for one in spans(self)
            ],
            "memory": self.memory,
        }


@dataclass(frozen=True)
class Span:
    """A stretch of the start.

    Attributes:
        name: what went on.
        begin: seconds since the command was typed.
        end: the same.
    """

    name: str
    begin: float
    end: float

    @property
    def seconds(self) -> float:
        """How long it took."""
        return self.end - self.begin


def spans(start: Start) -> list[Span]:
    """The critical path, one after the other, then what went on beside it. What was not seen is left out."""
    moments = start.moments
    points = [(moments[name], name) for name in (CHECKED, STARTED) if name in moments]
    titles = {CHECKED: "configuration checked", STARTED: "engine's process started"}
    found = []
    before = 0.0
    for moment, name in points:
        found.append(Span(titles[name], before, moment))
        before = moment
    listens = moments.get(LISTENS, moments.get(ANSWERED, before))
    told = [(moment, name) for moment, name in start.phases if name not in (READY, STOPPING, DEAD) and moment <= listens]
    for index, (_, name) in enumerate(told):
        end = told[index + 1][0] if index + 1 < len(told) else listens
        found.append(Span(f"engine: {name}", before, end))
        before = end
    if not told and listens > before:
        found.append(Span("engine: loading", before, listens))
    if ANSWERED in moments and LISTENS in moments:
        found.append(Span("port open, to the first answer", listens, moments[ANSWERED]))
    for name, title in ((DATABASE, "beside it: database takes connections"), (GATEWAY, "beside it: gateway answers")):
        if name in moments:
            found.append(Span(title, moments.get(CHECKED, 0.0), moments[name]))
    return found


def bar(span: Span, whole: float, width: int = WIDTH) -> str:
    """A span as blocks on a line of `width` characters that stands for `whole` seconds; never empty."""
    if whole <= 0:
        return ""
    first = min(int(span.begin / whole * width), width - 1)
    length = max(round(span.end / whole * width) - first, 1)
    return " " * first + "█" * min(length, width - first)


def middle(starts: Sequence[Start]) -> Start:
    """The start whose first answer took the median time; of an even number the faster of the two in the middle."""
    ordered = sorted(starts, key=lambda start: start.moments[ANSWERED])
    return ordered[(len(ordered) - 1) // 2]


def ratio(stack: Sequence[float], bare: Sequence[float]) -> float:
    """The stack's median over that of bare `vllm serve`."""
    return median(stack) / median(bare)


def spread(values: Sequence[float]) -> str:
    """The median, and the least and most if there are several; seconds."""
    text = f"{median(values):.1f}"
    return text if len(values) == 1 else f"{text} ({min(values):.1f} to {max(values):.1f})"

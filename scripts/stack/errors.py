"""The project's one exception family. Only the CLI prints them and chooses the exit status."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong, where it is, and how to put it right.

    Attributes:
        place: file, `file:line`, or the name of what the user typed.
        what: one line that says what is wrong.
        cure: one line that says what to do; may be empty.
        level: `error`, or `warning` for what works but hardly as meant.
    """

    place: str
    what: str
    cure: str = ""
    level: str = "error"

    def __str__(self) -> str:
        text = f"{self.level}: {self.place}: {self.what}"
        return f"{text}\n  {self.cure}" if self.cure else text


class StackError(Exception):
    """Base of every error this project raises on purpose.

    Attributes:
        problems: all that was found, not only the first.
        exit_status: 2 for the user's configuration, 1 for a failure at run time.
    """

    exit_status = 1

    def __init__(self, *problems: Problem) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = problems


class ConfigError(StackError):
    """The user's configuration is wrong; nothing was started."""

    exit_status = 2


class RunError(StackError):
    """Something failed while running."""


class DisturbedError(RunError):
    """Somebody else has stopped or changed the stack meanwhile: what they wanted counts."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A cure that names the nearest known names, or an empty string if none is near."""
    names = list(known)
    near = [other for other in names if len(name) > 2 and other.lower().startswith(name.lower())]
    near = near or _similar(name, names)
    if not near:
        return ""
    return f"did you mean {' or '.join(near[:3])}?"


def similarity(one: str, other: str) -> float:
    """How alike two names are, from 0 to 1."""
    return difflib.SequenceMatcher(None, other, one).ratio()


def _similar(name: str, names: list[str]) -> list[str]:
    """The most similar of `names`, and those that are nearly as similar."""
    ratios = {other: similarity(name, other) for other in names}
    best = max(ratios.values(), default=0.0)
    near = [other for other in names if ratios[other] >= max(0.5, best - 0.1)]
    return sorted(near, key=lambda other: -ratios[other])

"""What the parts of the check hand to each other."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from stack.errors import did_you_mean

SHOWN = 12


@dataclass(frozen=True)
class Finding:
    """Something about a value that is wrong.

    Attributes:
        what: what is wrong, without the place and the name of the thing.
        cure: what to do; may be empty.
        level: `error` or `warning`.
    """

    what: str
    cure: str = ""
    level: str = "error"


def choices(names: Iterable[object]) -> str:
    """The values there are, on one line; of many only the first."""
    shown = [str(name) for name in names]
    rest = f" and {len(shown) - SHOWN} more" if len(shown) > SHOWN else ""
    return f"there are: {', '.join(shown[:SHOWN])}{rest}"


def unknown(value: str, names: Iterable[object]) -> Finding:
    """A value that is none of those there are."""
    known = [str(name) for name in names]
    return Finding(f"no such value: {shorten(value)!r}", did_you_mean(value, known) or choices(known))


def shorten(text: str) -> str:
    """A value as it stands in a message."""
    return text if len(text) <= 60 else text[:59] + "…"

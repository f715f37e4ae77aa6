"""How long a start still takes, told from the last one. Pure arithmetic; standard library only."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

# (step, seconds) in their order.
Timed = tuple[str, float]
# A step, or a start, takes longer than last time when it is over by this: seconds and a tenth.
SLACK, SHARE = 1.0, 0.1


@dataclass(frozen=True)
class Left:
    """What is left of a part's start.

    Attributes:
        seconds: until it is ready, as far as is known.
        least: it may well be more: the running step takes longer than last time, or was not seen then.
        usual: what the running step took last time; 0 if it was not seen.
        over: the running step takes longer than that.
    """

    seconds: float
    least: bool = False
    usual: float = 0.0
    over: bool = False


def left(
    past: Sequence[Timed], gone: Sequence[str], running: str, elapsed: float, measured: float | None = None
) -> Left | None:
    """What is left of a part's start.

    Args:
        past: its steps last time.
        gone: the steps it has behind it this time.
        running: the step it is in.
        elapsed: seconds since that began.
        measured: seconds left of it, if it shows how far it is.

    Returns:
        None if nothing is remembered.
    """
    if not past:
        return None
    place = 0
    for name in gone:
        place = _next(past, name, place, place - 1) + 1
    index = _next(past, running, place, -1)
    later = sum(seconds for _, seconds in past[(index + 1 if index >= 0 else place) :])
    if index < 0:
        return Left(later + (measured or 0.0), least=measured is None)
    usual = past[index][1]
    over = longer(elapsed, usual)
    mine = max(usual - elapsed, 0.0) if measured is None else measured
    return Left(mine + later, over and measured is None, usual, over)


def _next(past: Sequence[Timed], name: str, start: int, otherwise: int) -> int:
    return next((index for index in range(start, len(past)) if past[index][0] == name), otherwise)


def longer(seconds: float, usual: float) -> bool:
    """Whether something takes noticeably longer than it usually does."""
    return seconds > usual + max(SLACK, usual * SHARE)


def of_fraction(done: float, then: float, elapsed: float) -> float | None:
    """Seconds left of a step that tells how far it is; None while that says little.

    Args:
        done: how far, from 0 to 1.
        then: seconds after its begin when it said so.
        elapsed: seconds since its begin.
    """
    if done < 0.1 or then < 1:
        return None
    whole = then / done
    return None if longer(elapsed, whole) else max(whole - elapsed, 0.0)


def whole(parts: Iterable[Left]) -> Left:
    """What is left until the last of the parts is ready: they start at the same time."""
    found = list(parts)
    seconds = max((one.seconds for one in found), default=0.0)
    return Left(seconds, least=any(one.least for one in found))

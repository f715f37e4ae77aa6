"""A start in words. Pure."""

from __future__ import annotations

from stack.progress.estimate import Left, longer
from stack.progress.timings import Expected

_UNITS = ("B", "kB", "MB", "GB", "TB")


def duration(seconds: float) -> str:
    """As people say it: `0.4 s`, `42 s`, `3 min 5 s`, `1 h 2 min`."""
    if seconds < 9.95:
        return f"{max(seconds, 0):.1f} s"
    whole = round(seconds)
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"


def about(seconds: float) -> str:
    """A length of time that is not known exactly."""
    return duration(max(round(seconds), 1)) if seconds >= 9.95 else f"{max(round(seconds), 1)} s"


def beforehand(expected: Expected) -> str:
    """What is said of a start before it."""
    if expected.past is None:
        return "how long this takes is not known: this model has not been started here before"
    took = duration(expected.past.seconds)
    if expected.same:
        return f"this took {took} last time"
    return f"this command has not been started here before; another one of this model took {took}"


def total(elapsed: float, left: Left, usual: float) -> str:
    """What is said of the whole start while it goes on.

    Args:
        elapsed: seconds so far.
        left: what is left.
        usual: seconds it took last time.
    """
    if longer(elapsed, usual):
        rest = f", at least {about(left.seconds)} left" if left.seconds >= 1 else ""
        return f"longer than last time ({duration(usual)}){rest}"
    return f"{'at least' if left.least else 'about'} {about(left.seconds)} left"


def step(detail: str, left: Left | None) -> str:
    """What is said of the running step: how far it is, and that it takes longer than last time."""
    late = f"longer than the {duration(left.usual)} of last time" if left and left.over else ""
    return ", ".join(text for text in (detail, late) if text)


def size(count: float) -> str:
    """Bytes in decimal units, as downloads are told: `19.0 GB`."""
    for unit in _UNITS:
        if count < 999.95 or unit == _UNITS[-1]:
            return f"{count:.0f} {unit}" if unit in ("B", "kB") else f"{count:.1f} {unit}"
        count /= 1000
    raise AssertionError


def transfer(got: float, of: float, rate: float) -> str:
    """`3.1 of 19.0 GB, 45.0 MB/s, about 5 min 53 s left`; what is not known is left out.

    Args:
        got: bytes that are here.
        of: bytes in all; 0: not known.
        rate: bytes a second; 0: not known.
    """
    words = [size(got)]
    if of:
        count, unit = size(of).split()
        words = [f"{size(got).removesuffix(f' {unit}')} of {count} {unit}"]
    words += [f"{size(rate)}/s"] if rate else []
    words += [f"about {about((of - got) / rate)} left"] if of > got and rate else []
    return ", ".join(words)

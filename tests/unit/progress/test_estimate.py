"""What is left, from what it took last time."""

from __future__ import annotations

import pytest

from stack.progress import estimate
from stack.progress.estimate import Left, left

PAST = (("a", 8.0), ("b", 2.0), ("c", 12.0), ("b", 4.0))


@pytest.mark.parametrize(
    ("gone", "running", "elapsed", "measured", "expected"),
    [
        ([], "a", 3.0, None, Left(23.0, usual=8.0)),
        (["a"], "b", 0.5, None, Left(17.5, usual=2.0)),
        (["a", "b"], "c", 0.0, None, Left(16.0, usual=12.0)),
        # The second one of the same name.
        (["a", "b", "c"], "b", 1.0, None, Left(3.0, usual=4.0)),
        # Within the slack it is not late, and nothing is left of it.
        ([], "a", 8.9, None, Left(18.0, usual=8.0)),
        ([], "a", 9.5, None, Left(18.0, least=True, usual=8.0, over=True)),
        # What it shows itself counts more.
        ([], "a", 9.5, 6.0, Left(24.0, usual=8.0, over=True)),
        (["a", "b"], "c", 4.0, 36.0, Left(40.0, usual=12.0)),
        # Not seen last time: what follows is known, the step is not.
        (["a"], "x", 5.0, None, Left(18.0, least=True)),
        (["a"], "x", 5.0, 7.0, Left(25.0)),
        (["x", "a"], "b", 0.0, None, Left(18.0, usual=2.0)),
        # One that was there last time and was left out now.
        (["a"], "c", 2.0, None, Left(14.0, usual=12.0)),
    ],
)
def test_left(gone: list[str], running: str, elapsed: float, measured: float | None, expected: Left) -> None:
    assert left(PAST, gone, running, elapsed, measured) == expected


def test_nothing_is_known_of_a_first_start() -> None:
    assert left((), [], "a", 3.0) is None


@pytest.mark.parametrize(
    ("done", "then", "elapsed", "expected"),
    [
        (0.5, 10, 10, 10.0),
        (0.25, 10, 10, 30.0),
        # It counts down until the next word, and knows nothing when that does not come.
        (0.25, 10, 25, 15.0),
        (0.25, 10, 41, 0.0),
        (0.25, 10, 60, None),
        (1.0, 10, 10, 0.0),
        (0.05, 10, 10, None),
        (0.0, 10, 10, None),
        (0.5, 0.4, 5, None),
    ],
)
def test_of_fraction(done: float, then: float, elapsed: float, expected: float | None) -> None:
    assert estimate.of_fraction(done, then, elapsed) == expected


def test_the_last_part_decides() -> None:
    assert estimate.whole([Left(3.0, least=True), Left(20.0)]) == Left(20.0, least=True)
    assert estimate.whole([]) == Left(0.0)

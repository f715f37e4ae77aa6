"""A start in words."""

from __future__ import annotations

import pytest

from stack.progress import shown
from stack.progress.estimate import Left
from stack.progress.timings import Expected, Key, Past

PAST = Past(Key("m", "c", "e", "native"), 31.2, {})


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.44, "0.4 s"),
        (9.96, "10 s"),
        (59.4, "59 s"),
        (59.6, "1 min 0 s"),
        (353, "5 min 53 s"),
        (3725, "1 h 2 min"),
        (-1, "0.0 s"),
    ],
)
def test_duration(seconds: float, text: str) -> None:
    assert shown.duration(seconds) == text


def test_beforehand_says_no_more_than_is_known() -> None:
    assert shown.beforehand(Expected(PAST, same=True)) == "this took 31 s last time"
    assert "not known" in shown.beforehand(Expected())
    assert shown.beforehand(Expected(PAST)).endswith("another one of this model took 31 s")


@pytest.mark.parametrize(
    ("elapsed", "left", "text"),
    [
        (10, Left(21.4), "about 21 s left"),
        (10, Left(0.2), "about 1 s left"),
        (10, Left(8, least=True), "at least 8 s left"),
        (36, Left(0.2), "longer than last time (31 s)"),
        (36, Left(8), "longer than last time (31 s), at least 8 s left"),
    ],
)
def test_total(elapsed: float, left: Left, text: str) -> None:
    assert shown.total(elapsed, left, 31.2) == text


def test_step() -> None:
    assert shown.step("3 of 8 shards", Left(3, usual=12.0, over=True)) == "3 of 8 shards, longer than the 12 s of last time"
    assert shown.step("", Left(3, usual=12.0)) == ""
    assert shown.step("", None) == ""


@pytest.mark.parametrize(
    ("got", "of", "rate", "text"),
    [
        (3.1e9, 19e9, 45e6, "3.1 of 19.0 GB, 45.0 MB/s, about 5 min 53 s left"),
        (31e6, 19e9, 0, "31.0 MB of 19.0 GB"),
        (31e6, 0, 2e6, "31.0 MB, 2.0 MB/s"),
        (93.7e6, 93.7e6, 2e6, "93.7 of 93.7 MB, 2.0 MB/s"),
        (500, 0, 0, "500 B"),
        (999_960, 0, 0, "1.0 MB"),
    ],
)
def test_transfer(got: float, of: float, rate: float, text: str) -> None:
    assert shown.transfer(got, of, rate) == text

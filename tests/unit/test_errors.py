"""The exception family and its cures."""

from __future__ import annotations

import pytest

from stack.errors import ConfigError, Problem, RunError, StackError, did_you_mean


def test_problem_has_place_and_cure() -> None:
    assert str(Problem("models/a.yml:14", "litellm.x: unknown key", "did you mean y?")) == (
        "error: models/a.yml:14: litellm.x: unknown key\n  did you mean y?"
    )
    assert str(Problem("MODEL", "is not there")) == "error: MODEL: is not there"


def test_error_carries_all_problems() -> None:
    first, second = Problem("a", "one"), Problem("b", "two", "do this")
    error = ConfigError(first, second)
    assert error.problems == (first, second)
    assert str(error) == "error: a: one\nerror: b: two\n  do this"


@pytest.mark.parametrize(("kind", "status"), [(ConfigError, 2), (RunError, 1), (StackError, 1)])
def test_exit_status(kind: type[StackError], status: int) -> None:
    assert kind.exit_status == status
    assert issubclass(kind, StackError)


KNOWN = ["temperature", "top_p", "top_k", "smollm2-135m", "minilm"]


@pytest.mark.parametrize(
    ("name", "cure"),
    [
        ("tempurature", "did you mean temperature?"),
        ("smollm2", "did you mean smollm2-135m?"),
        ("MINI", "did you mean minilm?"),
        ("top_", "did you mean top_p or top_k?"),
        ("zzz", ""),
        ("", ""),
    ],
)
def test_did_you_mean(name: str, cure: str) -> None:
    assert did_you_mean(name, KNOWN) == cure

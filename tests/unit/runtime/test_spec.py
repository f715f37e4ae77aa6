"""Services as data in a file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from stack.runtime.spec import Service, read_services, write_services

ONE = Service("engine", ("bash", "x.sh", "a b"), {"A": "1", "B": "größe"}, "/logs/engine.log", "1", "SIGINT", 7.5)


def test_round_trip_private_and_in_order(tmp_path: Path) -> None:
    path = tmp_path / "run" / "services.json"
    two = Service("gateway", ("true",), {}, "/logs/gateway.log")
    write_services(path, [two, ONE])
    assert read_services(path) == [two, ONE]
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    "change",
    [
        {"argv": ("bash",)},
        {"version": "2"},
        {"log": "/x"},
        {"stop_signal": "SIGTERM"},
        {"stop_seconds": 8.0},
        {"name": "other"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_digest_changes_with_what_matters(change: dict[str, Any]) -> None:
    assert replace(ONE, **change).digest != ONE.digest


def test_digest_does_not_depend_on_the_callers_environment() -> None:
    assert replace(ONE, env={"PATH": "/elsewhere"}).digest == ONE.digest

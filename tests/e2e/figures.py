"""The table of faults: what each did, how long it lasted, what was lost. Printed when the tests are over."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class Row:
    """One fault.

    Attributes:
        fault: what was done.
        seconds: from the fault until the stack answered again; None where it never stopped to.
        lost: requests that were not answered with 200 meanwhile, of `sent`.
        sent: all requests meanwhile.
        note: what clients saw.
    """

    fault: str
    seconds: float | None
    lost: int
    sent: int
    note: str = ""


ROWS: list[Row] = []


def record(fault: str, seconds: float | None, lost: int, sent: int, note: str = "") -> None:
    ROWS.append(Row(fault, seconds, lost, sent, note))


def table() -> list[str]:
    lines = [f"{'fault':<58} {'seconds':>8} {'lost':>10}  clients saw"]
    for row in ROWS:
        seconds = "0" if row.seconds is None else f"{row.seconds:.1f}"
        lines.append(f"{row.fault:<58} {seconds:>8} {f'{row.lost} of {row.sent}':>10}  {row.note}")
    return lines


def save(path: Path) -> None:
    path.write_text(json.dumps([asdict(row) for row in ROWS], indent=2) + "\n")

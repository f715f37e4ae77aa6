"""The result: a coloured table on a terminal, plain lines elsewhere, JSON for programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence

from stack.doctor.finding import FAULT, NONE, OK, WARNING, Finding

COLOURS = {OK: "green", WARNING: "yellow", FAULT: "bold red", NONE: "dim"}


def show(findings: Sequence[Finding], seconds: float, as_json: bool) -> None:
    """Print it."""
    if as_json:
        data = [{"check": one.check, "level": one.level, "what": one.what, "cure": one.cure} for one in findings]
        counts = {"faults": _count(findings, FAULT), "warnings": _count(findings, WARNING), "seconds": round(seconds, 2)}
        print(json.dumps({"findings": data, **counts}, indent=2))
        return
    if not (sys.stdout.isatty() and _table(findings)):
        width = max((len(one.check) for one in findings), default=0)
        for one in findings:
            print(f"{one.level:<15} {one.check:<{width}}  {one.what}")
            if one.cure:
                print(f"{'':<15} {'':<{width}}  -> {one.cure}")
    print(f"\n{summary(findings)} ({seconds:.1f} s)")


def summary(findings: Sequence[Finding]) -> str:
    """How many of what."""
    faults, warnings = _count(findings, FAULT), _count(findings, WARNING)
    said = [
        f"{count} {word}{'' if count == 1 else 's'}" for count, word in ((faults, "fault"), (warnings, "warning")) if count
    ]
    return ", ".join(said) or "nothing is wrong"


def _count(findings: Sequence[Finding], level: str) -> int:
    return sum(one.level == level for one in findings)


def _table(findings: Sequence[Finding]) -> bool:
    """On a terminal, in colours; False where the package for that is not there."""
    try:
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text
    except ImportError:
        return False
    table = Table(box=None, pad_edge=False, show_header=False)
    for _ in range(3):
        table.add_column(overflow="fold")
    for one in findings:
        text = Text(one.what, style="dim" if one.level == NONE else "")
        if one.cure:
            text.append(f"\n-> {one.cure}", style="cyan")
        table.add_row(Text(one.level, style=COLOURS[one.level], no_wrap=True), Text(one.check, no_wrap=True), text)
    Console(highlight=False).print(table)
    return True

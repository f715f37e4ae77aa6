"""Figures for people: one table, a column for each subject."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

Found = dict[str, Any]
Row = tuple[str, list[str]]


def machine() -> dict[str, Any]:
    """What it was measured on, and when."""
    cpu = ""
    for line in Path("/proc/cpuinfo").read_text("utf-8", "replace").splitlines():
        if line.startswith("model name"):
            cpu = line.partition(":")[2].strip()
            break
    return {
        "date": time.strftime("%Y-%m-%d %H:%M"),
        "cpu": cpu or platform.processor(),
        "cores": os.cpu_count(),
        "architecture": platform.machine(),
        "kernel": platform.release(),
        "python": platform.python_version(),
    }


def commit(repository: Path) -> str:
    """The repository's commit, with a + if something was changed since; empty without Git."""
    try:
        argv = ["git", "-C", str(repository), "describe", "--always", "--dirty=+"]
        return subprocess.run(argv, capture_output=True, text=True).stdout.strip()
    except OSError:
        return ""


def rows(subjects: dict[str, Found], measurements: list[str]) -> list[Row]:
    """The table's rows; a subject without a measurement has a dash there."""
    table: list[Row] = []

    def add(label: str, name: str, figure: Any) -> None:
        cells = []
        for found in subjects.values():
            try:
                cells.append(str(figure(found[name], subjects["direct"].get(name, {}))))
            except (KeyError, TypeError):  # not measured, or nothing arrived
                cells.append("-")
        table.append((label, cells))

    for name in measurements:
        if name.startswith("streams"):
            add(f"{name}: tokens/s", name, lambda found, _: f"{found['tokens_per_s']:,}")
            add("  first token, p50/p95 ms", name, lambda found, _: _pair(found["first_ms"]))
        elif name.startswith("paced"):
            add(f"{name}: delivered of what was offered", name, lambda found, _: f"{100 * found['delivered']:.1f} %")
            add("  first token, p50/p95 ms", name, lambda found, _: _pair(found["first_ms"]))
            add("  over direct, p50/p95 ms", name, lambda found, base: _over(found["first_ms"], base["first_ms"]))
        elif name == "unary 16":
            add("unary, 16 clients: requests/s", name, lambda found, _: f"{found['requests_per_s']:,}")
        elif name.startswith("unary"):
            add(f"{name}: request, p50/p95 ms", name, lambda found, _: _pair(found["whole_ms"]))
            add("  over direct, p50/p95 ms", name, lambda found, base: _over(found["whole_ms"], base["whole_ms"]))
        elif name.startswith("end"):
            add("longest pause in 8 other streams, ms", name, lambda found, _: found["longest_pause_ms"]["without"])
            add("  while a long stream runs", name, lambda found, _: found["longest_pause_ms"]["meanwhile"])
            add("  when it ends", name, lambda found, _: found["longest_pause_ms"]["at_end"])
        elif name.startswith("sustained"):
            add(f"{name}: tokens/s", name, lambda found, _: f"{found['tokens_per_s']:,}")
        if not name.startswith("sustained") and any(found.get(name, {}).get("errors") for found in subjects.values()):
            add("  failed answers", name, lambda found, _: found["errors"])
    return table


def _pair(values: Found) -> str:
    return f"{values['p50']:.1f} / {values['p95']:.1f}"


def _over(values: Found, base: Found) -> str:
    return f"{values['p50'] - base['p50']:+.1f} / {values['p95'] - base['p95']:+.1f}"


def show(report: Found) -> None:
    """Print the table, what was left out, and the check."""
    subjects = {name: entry["figures"] for name, entry in report["subjects"].items()}
    # The order of whichever subject was measured most.
    names: list[str] = max((list(figures) for figures in subjects.values()), key=len)
    where, options = report["machine"], report["options"]
    title = f"{where['cores']} cores, {where['cpu']}, {where['date']}; {options['streams']} streams, "
    title += f"paced: {options['rate']:,.0f} tokens/s, tokens per chunk: {options['tokens_per_chunk']}"
    table = Table(title=title, title_justify="left", box=None)
    table.add_column("")
    for name, entry in report["subjects"].items():
        table.add_column(f"{name} {entry['version']}".strip(), justify="right")
    for label, cells in rows(subjects, names):
        table.add_row(label, *cells)
    console = Console(width=None if Console().is_terminal else 160, highlight=False)
    console.print(table)
    for name, reason in report["left_out"].items():
        console.print(f"left out: {name}: {reason}")
    for name, entry in report["subjects"].items():
        for measurement, found in entry["figures"].items():
            if found.get("trouble"):
                console.print(f"{name}, {measurement}: {found['trouble']}", markup=False)
    if check := report["check"]:
        word = "ok" if check["ok"] else "WRONG"
        text = "requests {requests:,}, prompt tokens {prompt_tokens:,}, completion tokens {completion_tokens:,}"
        console.print(f"check: {word}: clients counted {text.format(**check['counted'])}")
        console.print(f"       PostgreSQL has  {text.format(**check['recorded'])}")

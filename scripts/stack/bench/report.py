"""A benchmark's result: as data, as a file, as a table, next to an earlier one."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from stack.errors import ConfigError, Problem
from stack.files import write_atomic

DIRECT, GATEWAY = "direct", "gateway"
FORMAT = 1
TIMES = {"ttft_ms": "first token, ms", "tpot_ms": "per token, ms", "e2e_ms": "whole answer, ms"}


@dataclass(frozen=True)
class Row:
    """One side at one concurrency.

    Attributes:
        side: direct or gateway.
        concurrency: requests under way at once.
        requests: how many were sent.
        errors: how many of them failed; figures are of the others.
        error: what the first of those said, one line.
        seconds: from the first request to the last answer.
        output_tokens_per_s: generated tokens, all requests together.
        requests_per_s: whole answers.
        ttft_ms: p50, p95, p99 of the time to the first token, milliseconds; None where nothing succeeded.
        tpot_ms: the same of the time for each further token.
        e2e_ms: the same of the time to the end of the answer.
        command: the measuring tool's argument list.
    """

    side: str
    concurrency: int
    requests: int
    errors: int
    error: str
    seconds: float
    output_tokens_per_s: float
    requests_per_s: float
    ttft_ms: Mapping[str, float | None]
    tpot_ms: Mapping[str, float | None]
    e2e_ms: Mapping[str, float | None]
    command: Sequence[str] = ()


@dataclass(frozen=True)
class Result:
    """One benchmark.

    Attributes:
        date: when it began, local time with offset, ISO 8601.
        model: the served model's name.
        runtime: docker or native.
        command: what to type for the same again.
        machine: cores, arch, cpu, gpu.
        versions: vllm, litellm.
        settings: route, input_tokens, output_tokens.
        rows: in the order they were measured.
    """

    date: str
    model: str
    runtime: str
    command: str
    machine: Mapping[str, Any]
    versions: Mapping[str, str]
    settings: Mapping[str, Any]
    rows: Sequence[Row] = field(default_factory=tuple)

    def row(self, side: str, concurrency: int) -> Row | None:
        """The row of a side at a concurrency, if it was measured."""
        return next((row for row in self.rows if (row.side, row.concurrency) == (side, concurrency)), None)

    def concurrencies(self) -> list[int]:
        """Those that were measured, ascending."""
        return sorted({row.concurrency for row in self.rows})

    def ratio(self, concurrency: int) -> float | None:
        """Output tokens a second through the gateway / directly; None where one of the two has none."""
        direct, through = self.row(DIRECT, concurrency), self.row(GATEWAY, concurrency)
        if not direct or not through or not direct.output_tokens_per_s or not through.output_tokens_per_s:
            return None
        return round(through.output_tokens_per_s / direct.output_tokens_per_s, 3)

    def data(self) -> dict[str, Any]:
        """For --json and the file."""
        ratios = {str(one): self.ratio(one) for one in self.concurrencies()}
        return {"format": FORMAT, **asdict(self), "ratio_gateway_direct": ratios}

    def where(self) -> str:
        """Machine and versions in a line."""
        machine = self.machine
        parts = [f"{machine.get('cores', '?')} cores", machine.get("arch", ""), machine.get("cpu", "")]
        parts += [machine.get("gpu") or "no GPU", *(f"{name} {text}" for name, text in self.versions.items() if text)]
        return ", ".join(str(part) for part in (*parts, self.date[:10]) if part)


def save(result: Result, folder: Path) -> Path:
    """Write load-YYYYmmdd-HHMMSS.json, named after when it began.

    Raises:
        RunError: the folder cannot be written to.
    """
    digits = "".join(char for char in result.date[:19] if char.isdigit())
    path = folder / f"load-{digits[:8]}-{digits[8:]}.json"
    write_atomic(path, json.dumps(result.data(), indent=2) + "\n")
    return path


def read(name: str, folder: Path) -> Result:
    """An earlier result.

    Args:
        name: a file, or `last` for the newest one in the folder.
        folder: where results are saved.

    Raises:
        ConfigError: there is none, or it is no such file.
    """
    path = Path(name)
    if name == "last":
        saved = sorted(folder.glob("load-*.json"))
        if not saved:
            raise ConfigError(Problem("--compare last", f"no result in {folder} yet", "measure once without --compare"))
        path = saved[-1]
    try:
        data = json.loads(path.read_text("utf-8"))
        known = {one.name for one in fields(Result)}
        rows = tuple(Row(**row) for row in data["rows"])
        return Result(**{**{key: value for key, value in data.items() if key in known}, "rows": rows})
    except OSError as error:
        raise ConfigError(Problem(f"--compare {name}", f"cannot be read: {error.strerror}")) from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ConfigError(Problem(f"--compare {name}", "is no result of ./runMe.sh bench")) from None


def differences(result: Result, earlier: Result) -> list[str]:
    """What else was different, a line each: a change of figures may come from that."""
    pairs: dict[str, tuple[Any, Any]] = {
        "model": (earlier.model, result.model),
        "runtime": (earlier.runtime, result.runtime),
    }
    for before, now in (
        (earlier.settings, result.settings),
        (earlier.machine, result.machine),
        (earlier.versions, result.versions),
    ):
        pairs |= {key: (before.get(key), now.get(key)) for key in {**before, **now}}
    return [f"{key}: {before} then, {now} now" for key, (before, now) in pairs.items() if before != now]


def change(now: float | None, before: float | None) -> str:
    """The change in percent, with its sign; empty where there is none to tell."""
    return f"{100 * (now / before - 1):+.0f} %" if now is not None and before else ""


def cells(result: Result, row: Row, earlier: Result | None) -> list[tuple[str, str]]:
    """The figures of a row, each with its change: tokens/s, requests/s, the three times, errors."""
    before = earlier.row(row.side, row.concurrency) if earlier else None
    found = [
        (f"{row.output_tokens_per_s:.1f}", change(row.output_tokens_per_s, before.output_tokens_per_s if before else None)),
        (f"{row.requests_per_s:.2f}", change(row.requests_per_s, before.requests_per_s if before else None)),
    ]
    for name in TIMES:
        times = getattr(row, name)
        text = " / ".join("-" if value is None else number(value) for value in times.values())
        found.append((text, change(times["p50"], getattr(before, name)["p50"] if before else None)))
    return [*found, (f"{row.errors} of {row.requests}" if row.errors else "0", "")]


def number(value: float) -> str:
    """Milliseconds with as many digits as say something."""
    return f"{value:.1f}" if value < 100 else f"{value:.0f}"


def show(result: Result, earlier: Result | None, console: Console) -> None:
    """Print the table, and under it what failed."""
    settings = result.settings
    title = f"{result.model}, {settings['route']}, {settings['input_tokens']} tokens in, {settings['output_tokens']} out"
    table = Table(title=escape(title), title_justify="left", box=None, pad_edge=False, caption_justify="left")
    table.caption = (
        escape(result.where())
        + "\nratio: tokens/s, gateway / direct; times: p50 / p95 / p99"
        + (", changes of p50" if earlier else "")
    )
    for heading in ("at once", "", "tokens/s", "req/s", *TIMES.values(), "errors", "ratio"):
        table.add_column(heading, justify="left" if not heading else "right")
    for concurrency in result.concurrencies():
        for side in (DIRECT, GATEWAY):
            row = result.row(side, concurrency)
            if row:
                texts = [f"{text} [dim]({changed})[/]" if changed else text for text, changed in cells(result, row, earlier)]
                texts[-1] = f"[red]{texts[-1]}[/]" if row.errors else texts[-1]
                ratio = result.ratio(concurrency) if side == GATEWAY else None
                table.add_row(
                    str(concurrency) if side == DIRECT else "", side, *texts, f"[bold]{ratio:.3f}[/]" if ratio else ""
                )
    console.print(table)
    for row in result.rows:
        if row.errors:
            console.print(f"{row.side}, {row.concurrency} at once: {row.error}", style="red", markup=False)

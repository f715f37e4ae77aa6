"""The figures as a table with bars, as wide as the terminal allows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from stack.usage.query import BY, Row, Usage
from stack.usage.texts import MEANING, pair, printable, seconds, short

# Rows of models, keys and clients that a table shows; whoever wants all takes --csv or --json.
SHOWN = 30


@dataclass(frozen=True)
class Form:
    """How much of the figures there is room for.

    Attributes:
        bar: width of the bars, characters.
        exact: tokens to the unit, or to three digits.
        both: times as p50 / p95, or p50 only.
        name: the longest name, characters; a longer one goes on in the next line.
    """

    bar: int
    exact: bool = True
    both: bool = True
    name: int = 100

    @property
    def headings(self) -> tuple[str, ...]:
        """What the columns of figures are called."""
        if self.both:
            return ("requests", "errors", "cancelled", "tokens in", "tokens out", "tokens/s", "first token", "whole answer")
        return ("requests", "errors", "gone", "in", "out", "tok/s", "first", "whole")

    def cells(self, row: Row) -> list[str]:
        """The figures of a row."""
        count = "{:,}".format if self.exact else short
        time = pair if self.both else _first
        return [
            f"{row.requests:,}",
            f"{row.errors:,}" if row.errors else "",
            f"{row.cancelled:,}" if row.cancelled else "",
            count(row.tokens_in),
            count(row.tokens_out),
            f"{row.tokens_per_s:,.1f}" if row.tokens_per_s else "",
            time(row.ttft),
            time(row.latency),
        ]


# The widest that fits is taken; the last one anyway.
FORMS = (
    Form(18),
    Form(18, exact=False),
    Form(8, exact=False, name=30),
    Form(8, exact=False, both=False, name=24),
    Form(4, exact=False, both=False, name=14),
)


def show(usage: Usage, by: str, console: Console) -> None:
    """Print the rows with bars of their requests, and a total."""
    rows = usage.by[BY[by]]
    shown = rows if by == "day" else rows[:SHOWN]
    for form in FORMS:
        made = _table(usage, by, shown, form)
        if Measurement.get(console, console.options.update(width=1000), made).maximum <= console.width:
            break
    # Not the table's own title, which is as wide as the table and no wider.
    console.print(Text(f"usage since {usage.period.since:%a %Y-%m-%d %H:%M %Z}, by {by}", style="bold"))
    console.print(made)
    if len(shown) < len(rows):
        console.print(f"and {len(rows) - len(shown)} more, in the total too; all of them: --csv", style="dim")
    for line in notes(usage, form):
        console.print(line, style="dim", markup=False, highlight=False)


def _table(usage: Usage, by: str, rows: Sequence[Row], form: Form) -> Table:
    most = max((row.requests for row in rows), default=0)
    made = Table(box=None, pad_edge=False, show_footer=True)
    made.add_column(by, footer="total", overflow="fold", max_width=form.name)
    made.add_column("", footer="", no_wrap=True, min_width=form.bar)
    for heading, foot in zip(form.headings, form.cells(usage.total), strict=True):
        made.add_column(heading, footer=foot, justify="right", no_wrap=True)
    for row in rows:
        bad = row.errors and row.errors * 20 >= row.requests
        drawn = Text(bar(row.requests, most, form.bar), style="red" if bad else "cyan")
        made.add_row(Text(printable(row.name)), drawn, *form.cells(row))
    return made


def notes(usage: Usage, form: Form) -> list[str]:
    """What went wrong, in a line or none, and how to read the table."""
    if not usage.total.requests:
        return ["no requests in this time; the gateway writes what it answered down within ten seconds"]
    times = "p50 / p95" if form.both else "p50"
    gone = "" if form.both else "; gone: the client went away before the answer"
    lines = [f"times: {times} in seconds, of answered requests; first token: of streams{gone}"]
    if usage.errors:
        parts = [
            f"{count:,} x {code}{f' ({MEANING[code]})' if code in MEANING else ''}" for code, count in usage.errors.items()
        ]
        lines.insert(0, f"not answered: {', '.join(parts)}")
    return lines


def bar(count: int, most: int, width: int) -> str:
    """A bar of eighths of a character; whatever is there is seen."""
    if not count or not most:
        return ""
    whole, rest = divmod(max(round(width * 8 * count / most), 1), 8)
    return "█" * whole + (" ▏▎▍▌▋▊▉"[rest] if rest else "")


def _first(values: Sequence[float] | None) -> str:
    return seconds(values[0]) if values else ""

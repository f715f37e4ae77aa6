"""`./runMe.sh usage`: the figures as a table, as CSV, as JSON or as a page."""

from __future__ import annotations

import csv
import io
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from stack import views
from stack.errors import ConfigError, Problem
from stack.files import write_atomic
from stack.runtime import database
from stack.runtime.layout import Layout
from stack.usage import period as periods
from stack.usage import query, table
from stack.usage.query import BY, Row, Usage
from stack.usage.texts import printable


def run(layout: Layout, runtime: Any, *, by: str, since: str, form: str = "", html: str = "") -> int:
    """Ask and show.

    Args:
        layout: folders.
        runtime: the one that runs.
        by: one of BY.
        since: see period.since.
        form: csv, json, or empty for a table.
        html: a file to write the page to, or empty.

    Raises:
        ConfigError: `since` or `html` cannot be.
        RunError: the database does not answer.
    """
    now = datetime.now(UTC)
    begin = periods.since(since, now)
    if html and (not Path(html).absolute().parent.is_dir() or Path(html).is_dir()):
        raise ConfigError(Problem(f"--html {html}", "is not a file in a folder that is there"))
    reached = database.find(layout, runtime)
    usage = query.read(reached, periods.of(begin, now, "day"), [BY[by]])
    if html:
        from stack.usage import page

        whole = query.read(reached, periods.of(begin, now), query.DIMENSIONS)
        write_atomic(Path(html), page.render(whole))
    if form == "csv":
        print(as_csv(usage, by), end="")
    elif form == "json":
        views.print_json(data(usage, by))
    else:
        table.show(usage, by, views.console())
        if html:
            print(f"saved: {html}")
    return 0


def data(usage: Usage, by: str) -> dict[str, Any]:
    """For --json."""
    return {
        "since": usage.period.since.isoformat(timespec="seconds"),
        "until": usage.period.until.isoformat(timespec="seconds"),
        "by": by,
        "rows": [row.data() for row in usage.by[BY[by]]],
        "total": {**usage.total.data(), "name": "total"},
        "errors": dict(usage.errors),
    }


def as_csv(usage: Usage, by: str) -> str:
    """A heading and a line for each row; no total. What a spreadsheet would take for a formula begins with '."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    for index, row in enumerate(usage.by[BY[by]] or [Row("")]):
        cells = row.data()
        if not index:
            writer.writerow([by, *list(cells)[1:]])
        if usage.by[BY[by]]:
            name = printable(row.name)
            writer.writerow([f"'{name}" if name[:1] in "=+-@" else name, *list(cells.values())[1:]])
    return text.getvalue()

"""`./runMe.sh models`: what there is, and whether it fits here."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.table import Table

from stack import sources, views
from stack.fit import facts, listing, machine
from stack.fit.listing import Row
from stack.fit.parts import gib
from stack.plan import early, select


def run(root: Path, environ: Mapping[str, str], as_json: bool) -> int:
    """Each fragment; a wrong one says so."""
    default = select(sources.read(root, environ, []))
    where = machine.here(environ, early("ENGINE_BUILD", root, environ))
    rows = listing.rows(root, [where], facts.hub_folder(early("HF_HOME", root, environ), environ))
    if as_json:
        views.print_json([_data(row, row.name == default) for row in rows])
    else:
        table = Table(box=None, pad_edge=False, caption=f"here: {where.name}; by memory alone", caption_justify="left")
        for heading in ("model", "size", "context", "fits here", "tools", "reasoning", "cached", "description"):
            table.add_column(heading, overflow="fold")
        words = {True: "yes", False: "no", None: "?"}
        for row in rows:
            name = row.name + (" (default)" if row.name == default else "")
            size, context = gib(row.weights) if row.weights else "?", f"{row.context:,}" if row.context else "?"
            cells = ["", "", "", "", "", ""]
            if not row.error:
                cells = [size, context, words[row.fits()], row.tools, row.reasoning, words[True] if row.cached else ""]
            table.add_row(name, *cells, escape(row.error or row.description))
        views.console().print(table)
    return 2 if any(row.error for row in rows) else 0


def _data(row: Row, default: bool) -> dict[str, Any]:
    if row.error:
        return {"name": row.name, "default": default, "error": row.error}
    answer = row.answers[0] if row.answers else None
    return {
        "name": row.name,
        "default": default,
        "model": row.repository,
        "description": row.description,
        "weights": row.weights or None,
        "context": row.context or None,
        "fits": row.fits(),
        "why": answer.why if answer else "",
        "tools": row.tools,
        "reasoning": row.reasoning,
        "cached": row.cached,
    }

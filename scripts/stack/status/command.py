"""What `./runMe.sh status` does and prints."""

from __future__ import annotations

import sys
import time
from datetime import datetime
from typing import Any

from stack import views
from stack.runtime.layout import Layout
from stack.status import show
from stack.status.look import Looker
from stack.status.snapshot import Snapshot

EVERY = 2.0


def add_options(parser: Any) -> None:
    """What the command takes."""
    parser.add_argument(
        "--watch",
        nargs="?",
        type=float,
        const=EVERY,
        metavar="SECONDS",
        help=f"look again every so often ({EVERY:g}); Ctrl-C ends it",
    )


def run(runtime: Any, layout: Layout, options: Any) -> int:
    """Show how the stack is; exit status 0 if all of it is ready, else 1. With --watch: of the last look."""
    looker = Looker(layout, runtime)
    if options.watch is None:
        return _print(looker.look(), options.json)
    every = max(options.watch, 0.5)
    try:
        return _watch(looker, every, options.json)
    except KeyboardInterrupt:
        return 0


def _watch(looker: Looker, every: float, as_json: bool) -> int:
    console = views.console()
    if as_json or not console.is_terminal:
        while True:
            began = time.monotonic()
            _print(looker.look(), as_json, separate=True)
            time.sleep(max(every - (time.monotonic() - began), 0))
    from rich.console import Group
    from rich.live import Live
    from rich.text import Text

    with Live(console=console, screen=True, auto_refresh=False) as live:
        while True:
            began = time.monotonic()
            shot = looker.look()
            at = f"{datetime.fromtimestamp(shot.time):%H:%M:%S}, every {every:g} s; Ctrl-C ends it"
            live.update(Group(show.screen(shot), Text(), Text(at, style="dim")), refresh=True)
            time.sleep(max(every - (time.monotonic() - began), 0))


def _print(shot: Snapshot, as_json: bool, separate: bool = False) -> int:
    if as_json:
        if separate:
            views.print_json_line(shot.data())
        else:
            views.print_json(shot.data())
    else:
        if separate:
            print(f"-- {datetime.fromtimestamp(shot.time):%Y-%m-%d %H:%M:%S}")
        views.console().print(show.screen(shot))
        sys.stdout.flush()
    return 0 if shot.state == "ready" else 1

"""What `./runMe.sh bench` does and prints."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from stack import views
from stack.errors import ConfigError, Problem
from stack.files import write_atomic
from stack.runtime.layout import Layout


def add_options(parser: Any) -> None:
    """What the command takes."""
    parser.add_argument("--startup", action="store_true", help="instead: second start against bare `vllm serve`")
    parser.add_argument("--cold", action="store_true", help="with --startup: without page cache and compile caches")
    parser.add_argument("--repeat", type=_number, metavar="N", help="with --startup: how often; medians count (1)")
    load = parser.add_argument_group("load")
    load.add_argument("--concurrency", type=_numbers, metavar="N,N", help="requests under way at once (1,4,16,64)")
    load.add_argument("--requests", type=_number, metavar="N", help="requests at each (by concurrency, 8 to 64)")
    load.add_argument("--input-tokens", type=_number, metavar="N", help="length of each prompt (128)")
    load.add_argument("--output-tokens", type=_number, metavar="N", help="length of each answer (32)")
    load.add_argument("--route", choices=("chat", "completions"), help="/v1/chat/completions or /v1/completions (chat)")
    load.add_argument("--html", metavar="FILE", help="write a page with plots")
    load.add_argument("--compare", metavar="FILE", help="show the change since an earlier result, or since the `last` one")


def _number(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text}: not a whole number above 0")
    return int(text)


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(sorted({_number(part.strip()) for part in text.split(",")}))


def run(layout: Layout, environ: Mapping[str, str], options: argparse.Namespace, running: Callable[[], Any]) -> int:
    """Measure and show.

    Args:
        layout: folders.
        environ: of the caller.
        options: those of `add_options`, and `json`.
        running: finds the runtime that has the stack.

    Returns:
        The exit status: 1 if requests failed.

    Raises:
        ConfigError: of options that do not go together, or files that cannot be.
        RunError: it could not be measured.
    """
    from stack.bench import load, page, report, startup, tool
    from stack.display import reporter

    asked = ("concurrency", "requests", "input_tokens", "output_tokens", "route")
    given = {name: getattr(options, name) for name in asked if getattr(options, name)}
    if options.startup:
        if given or options.html or options.compare:
            raise ConfigError(Problem("bench --startup", "takes no other option than --cold, --repeat and --json"))
        return startup.run(layout, environ, as_json=options.json, cold=options.cold, repeat=options.repeat or 1)
    if options.cold or options.repeat:
        raise ConfigError(Problem("bench", "--cold and --repeat are for --startup"))
    folder = layout.state / "bench"
    earlier = report.read(options.compare, folder) if options.compare else None
    if options.html and (not Path(options.html).absolute().parent.is_dir() or Path(options.html).is_dir()):
        raise ConfigError(Problem(f"--html {options.html}", "is not a file in a folder that is there"))
    runtime = running()
    with reporter(views.console(stderr=True)) as shown:
        result = load.run(layout, runtime, tool.Load(**given), shown)
        for line in report.differences(result, earlier) if earlier else ():
            shown.note(f"the earlier result is of something else: {line}")
    saved = report.save(result, folder)
    if options.html:
        write_atomic(Path(options.html), page.render(result, earlier))
    if options.json:
        views.print_json({**result.data(), "file": str(saved), "earlier": earlier and earlier.data()})
    else:
        report.show(result, earlier, views.console())
        print(f"saved: {saved}" + (f", {options.html}" if options.html else ""))
    return 1 if any(row.errors for row in result.rows) else 0

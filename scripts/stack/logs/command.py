"""What `./runMe.sh logs` does and prints."""

from __future__ import annotations

import heapq
import os
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from stack.errors import ConfigError, Problem, did_you_mean
from stack.logs import docker, files, wanted
from stack.logs.lines import Line, is_error
from stack.logs.wanted import Wanted

LINES = 40
# Of a terminal: cyan, green, yellow, magenta, blue; errors are red.
_COLOURS = {"engine": 36, "gateway": 32, "database": 33, "chat": 35, "supervisor": 34}
_RED = 31


def add_options(parser: Any) -> None:
    """What the command takes."""
    parser.add_argument("parts", nargs="*", metavar="PART", help="only these: engine, gateway, database, chat, ...")
    parser.add_argument("-f", "--follow", action="store_true", help="go on showing; Ctrl-C ends it")
    parser.add_argument(
        "-n", "--lines", type=int, metavar="N", help=f"how many lines of each part ({LINES}; searching: all)"
    )
    parser.add_argument("--since", default="", metavar="TIME", help="only newer lines: 10m, 2h, 1d, 2026-11-26T16:50")
    parser.add_argument("--grep", default="", metavar="REGEX", help="only lines that match")
    parser.add_argument("--request", default="", metavar="ID", help="only lines of this request: an answer's x-request-id")
    parser.add_argument("-t", "--timestamps", action="store_true", help="put each line's time before it")


def run(runtime: Any, options: Any) -> int:
    """Show what is asked for; exit status 1 if a search found nothing.

    Raises:
        ConfigError: there is no such part, or an option makes no sense.
    """
    looked = wanted.make(options.since, options.grep, options.request, time.time())
    there: dict[str, Path | str] = runtime.log_places()
    unknown = [name for name in options.parts if name not in there]
    if unknown and there:
        cure = did_you_mean(unknown[0], there) or f"there are: {', '.join(there)}"
        raise ConfigError(
            *(Problem(f"logs {name}", "there is no such part, or it has printed nothing", cure) for name in unknown)
        )
    chosen = {name: place for name, place in there.items() if name in options.parts or not options.parts}
    if not chosen:
        print("no logs yet")
        return 1
    show = _Printer(chosen, options.timestamps)
    count = options.lines if options.lines is not None else None if looked.searches or looked.since else LINES
    lines, ends = merged(chosen, looked, count)
    shown = show.print(lines)
    try:
        for batch in _follow(chosen, ends) if options.follow else ():
            show.print(line for line in batch if looked.takes(line))
    except KeyboardInterrupt:
        return 0
    if not shown and looked.searches and not options.follow:
        hint = "; the engine names requests only with ENGINE_LOG_REQUESTS=true" if looked.request else ""
        print(f"no line says so{hint}", file=sys.stderr)
        return 1
    return 0


def merged(places: Mapping[str, Any], looked: Wanted, count: int | None) -> tuple[Iterator[Line], dict[str, float]]:
    """The wanted lines of all, oldest first; of each the last `count` of them, or all if that is None.

    Returns:
        The lines, and how far each log was read: the size of a file, or a time.
    """
    with ThreadPoolExecutor(len(places)) as pool:
        found = list(pool.map(lambda item: _last(item[0], item[1], looked, count), places.items()))
    ends = {part: end for part, (_, end) in zip(places, found, strict=True)}
    return heapq.merge(*(lines for lines, _ in found), key=lambda line: line.time), ends


def _last(part: str, place: Path | str, looked: Wanted, count: int | None) -> tuple[list[Line], float]:
    end: float
    if isinstance(place, Path):
        lines, end = files.tail(part, place, partial(_enough, looked, count))
    else:
        end = time.time()
        lines = docker.read(part, place, looked.since, None if looked.searches else count)
        end = lines[-1].time if lines else end
    taken = [line for line in lines if looked.takes(line)]
    return (taken if count is None else taken[max(len(taken) - count, 0) :]), end


def _enough(looked: Wanted, count: int | None, lines: Sequence[Line]) -> bool:
    if looked.since and lines and lines[0].time < looked.since:
        return True
    return count is not None and sum(map(looked.takes, lines)) >= count


def _follow(places: Mapping[str, Any], ends: Mapping[str, float]) -> Iterator[list[Line]]:
    kept = {name: place for name, place in places.items() if isinstance(place, Path)}
    return files.follow(kept, ends) if kept else docker.follow(places, ends)


class _Printer:
    def __init__(self, places: Iterable[str], stamps: bool) -> None:
        names = list(places)
        # The lines of a single part are as it printed them.
        self._width = max(map(len, names)) if len(names) > 1 else 0
        self._coloured = sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
        self._stamps = stamps

    def print(self, lines: Iterable[Line]) -> int:
        """Print them; how many there were."""
        count = 0
        for line in lines:
            count += 1
            sys.stdout.write(self._text(line))
        sys.stdout.flush()
        return count

    def _text(self, line: Line) -> str:
        stamp = f"{datetime.fromtimestamp(line.time).isoformat(timespec='seconds')} " if self._stamps else ""
        name = f"{line.part:<{self._width}} | " if self._width else ""
        if not self._coloured:
            return f"{stamp}{name}{line.text}\n"
        text = f"\x1b[{_RED}m{line.text}\x1b[0m" if is_error(line.text) else line.text
        return f"\x1b[{_COLOURS.get(line.part, 37)}m{stamp}{name}\x1b[0m{text}\n"

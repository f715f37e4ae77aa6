"""`benchmarks/run.sh`: every subject in one run, on this machine, one after the other."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from benchmarks import report, wire
from benchmarks.measurements import Options, Session
from benchmarks.subjects import SUBJECTS, Bench, LeftOutError, Subject, check, upstream
from stack.errors import StackError
from stack.files import write_atomic
from stack.runtime.layout import REPOSITORY, Layout

# Seconds in which the gateway has to write what it still has in memory.
FLUSH = 40.0


class Progress:
    """Progress on stderr: one line each time something begins."""

    def __init__(self) -> None:
        self.began, self.last = time.monotonic(), ""

    def phase(self, name: str, text: str, _done: float | None = None) -> None:
        """Something goes on."""
        if name != self.last:
            self.note(f"{name}: {text}")
        self.last = name

    def finished(self, name: str, text: str) -> None:
        """Something has ended."""
        self.note(f"{name}: {text}")

    def note(self, text: str) -> None:
        """Something worth knowing."""
        print(f"{time.monotonic() - self.began:6.1f} s  {text}", file=sys.stderr, flush=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print, write. 0: measured; 1: something failed, or what was recorded is not what was counted."""
    options = _options(argv)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that everything started is ended
    try:
        found = _run(options, check([name for name in options.only.split(",") if name]))
    except StackError as error:
        for problem in error.problems:
            print(problem, file=sys.stderr)
        return error.exit_status
    except KeyboardInterrupt:
        return 130
    report.show(found)
    if options.json:
        write_atomic(options.json, json.dumps(found, indent=2) + "\n")
    return 1 if found["check"] and not found["check"]["ok"] else 0


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="benchmarks/run.sh", description="What the gateway alone can carry, next to what else there is."
    )
    parser.add_argument("--only", default="", metavar="SUBJECT[,...]", help=f"of: {', '.join(SUBJECTS)}; direct always")
    parser.add_argument("--streams", type=int, default=32, help="streams at once (%(default)s)")
    parser.add_argument("--rate", type=float, default=20_000, help="tokens/s offered by all paced streams (%(default)s)")
    parser.add_argument("--tokens-per-chunk", type=int, default=1, help="as vLLM's --stream-interval (%(default)s)")
    parser.add_argument("--search", action="store_true", help="search for the highest rate that is sustained")
    parser.add_argument("--quick", action="store_true", help="less of everything: about half the time")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures")
    return parser.parse_args(argv)


def _run(given: argparse.Namespace, names: list[str]) -> dict[str, Any]:
    options = Options(streams=given.streams, rate=given.rate, search=given.search)
    if given.quick:
        options = replace(options, seconds=2.0, long=4000, quick=True)
    found: dict[str, Any] = {
        "machine": report.machine(),
        "commit": report.commit(REPOSITORY),
        "options": {**asdict(options), "tokens_per_chunk": given.tokens_per_chunk},
        "subjects": {},
        "left_out": {},
        "check": None,
    }
    progress = Progress()
    installed = Layout.from_environ({"ENVS_DIR": os.environ.get("ENVS_DIR", "")}).environments
    with tempfile.TemporaryDirectory(prefix="benchmark.") as temporary:
        folder = Path(temporary)
        layout = Layout(folder / "root", folder / "state", folder / "secrets", installed)
        with upstream(folder, given.tokens_per_chunk) as port:
            bench = Bench(folder, port, options.streams, layout, progress)
            for name in names:
                progress.note(f"{name}: starting")
                try:
                    with SUBJECTS[name](bench) as subject:
                        session = Session(subject, options, lambda text, name=name: progress.note(f"{name}: {text}"))  # type: ignore[misc]
                        asyncio.run(session.run())
                        found["subjects"][name] = {"version": subject.version, "figures": session.found}
                        if subject.recorded:
                            progress.note(f"{name}: comparing with the database")
                            found["check"] = _check(subject, session)
                except LeftOutError as error:
                    found["left_out"][name] = str(error)
                    progress.note(f"{name}: left out: {error}")
    return found


def _check(subject: Subject, session: Session) -> dict[str, Any]:
    """Whether the database has exactly what the clients counted."""
    assert subject.recorded is not None
    counted = (session.requests, session.requests * wire.PROMPT_TOKENS, session.tokens)
    deadline = time.monotonic() + FLUSH
    while (recorded := subject.recorded())[0] < counted[0] and time.monotonic() < deadline:
        time.sleep(0.5)
    names = ("requests", "prompt_tokens", "completion_tokens")
    return {
        "ok": counted == recorded,
        "counted": dict(zip(names, counted, strict=True)),
        "recorded": dict(zip(names, recorded, strict=True)),
    }


if __name__ == "__main__":
    sys.exit(main())

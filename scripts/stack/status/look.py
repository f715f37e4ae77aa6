"""Asks the parts of a stack, all at once, each for a few seconds at most: what does not answer is not known."""

from __future__ import annotations

import contextlib
import csv
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from stack import hidden
from stack.errors import StackError
from stack.logs import docker, files
from stack.logs.lines import Line, is_error
from stack.releases import Releases
from stack.runtime import probe, secret_files
from stack.runtime.condition import UNRESPONSIVE
from stack.runtime.layout import Layout
from stack.runtime.watch import Part
from stack.status import figures
from stack.status.figures import Reading
from stack.status.snapshot import Answered, Gpu, LastError, Snapshot

# Seconds for all of it: a Docker engine that hangs would keep us for ever, one on a busy machine takes its time.
DEADLINE = 60.0
# Over how many seconds the rate of tokens is taken, where requests run.
INTERVAL = 1.0
# Lines of a container's log, and characters of an error, that are looked at.
_LINES, _LONGEST = 400, 300
_GPU = ("index", "name", "memory.used", "memory.total", "utilization.gpu")
MIB = 1 << 20


class Looker:
    """Looks at one stack, again and again.

    Args:
        layout: its folders.
        runtime: Native or Docker.
    """

    def __init__(self, layout: Layout, runtime: Any) -> None:
        self._layout, self._runtime = layout, runtime
        self._readings: list[Reading] = []

    def look(self) -> Snapshot:
        """The stack now; takes a second more where requests run and none has been seen before."""
        layout, runtime = self._layout, self._runtime
        found = together(
            {
                "places": runtime.addresses,
                "parts": self._parts,
                "watchers": runtime.watchers,
                "model": runtime.running_model,
                "first": lambda: None if self._readings else self._reading(runtime.addresses()),
                "answered": self._answered,
                "gpus": gpus,
                "error": lambda: last_error(runtime.log_places(), secrets(layout.secrets)),
            },
            DEADLINE,
        )
        parts, why_unknown = found["parts"] or ([], f"no answer within {DEADLINE:g} s")
        places = found["places"] or {}
        release = Releases(layout.releases).current() if found["model"] else None
        host, port = places.get("gateway", ("", 0))
        shot = Snapshot(
            time=time.time(),
            runtime=runtime.name,
            model=found["model"] or "",
            parts=parts,
            why_unknown=why_unknown,
            watchers=found["watchers"] or {},
            release=release.number if release else 0,
            revision=release.revision if release else "",
            url=f"http://{probe.reachable(host)}:{port}" if port else "",
            answered=found["answered"],
            gpus=found["gpus"],
            error=found["error"],
        )
        silent = any(part.name == "engine" and part.state == UNRESPONSIVE for part in parts)
        return shot if silent else self._with_figures(shot, places)

    def _parts(self) -> tuple[list[Part], str]:
        """The parts; if they cannot be found out, none, and why."""
        try:
            return self._runtime.parts(), ""
        except StackError as error:
            return [], error.problems[0].what
        except OSError as error:
            return [], f"{error.filename}: {error.strerror}"

    def _with_figures(self, shot: Snapshot, places: Mapping[str, tuple[str, int]]) -> Snapshot:
        before = self._readings[-1] if self._readings else None
        if before is not None and before.sums.get("running", 0) > 0:
            time.sleep(max(INTERVAL - (time.time() - before.time), 0))
        reading = self._reading(places)
        if reading is None:
            return shot
        self._readings = [one for one in self._readings if reading.time - one.time <= figures.WINDOW]
        rates = figures.rates(before, reading) if before and before is not reading else None
        return replace(shot, time=time.time(), reading=reading, rates=rates, ttft=figures.ttft(self._readings))

    def _reading(self, places: Mapping[str, tuple[str, int]]) -> Reading | None:
        host, port = places.get("engine", ("", 0))
        if not port:
            return None
        status, text = probe.get(f"http://{probe.reachable(host)}:{port}/metrics")
        reading = figures.read(text, time.time()) if status == 200 and isinstance(text, str) else None
        if reading:
            self._readings.append(reading)
        return reading

    def _answered(self) -> Answered | None:
        host, port = self._runtime.addresses().get("gateway", ("", 0))
        key = secret_files.read(self._layout.secrets, "LITELLM_MASTER_KEY")
        if not port or not key:
            return None
        status, body = probe.get(f"http://{probe.reachable(host)}:{port}/stack/requests", key)
        try:
            return Answered(body["since"], body["under_way"], dict(body["answered"])) if status == 200 else None
        except (KeyError, TypeError, ValueError):
            return None


def together(calls: Mapping[str, Callable[[], Any]], seconds: float) -> dict[str, Any]:
    """The results of calls that are made at the same time; None of one that fails or is not over in time."""
    found: dict[str, Any] = dict.fromkeys(calls)

    def call(name: str) -> None:
        with contextlib.suppress(Exception):  # what cannot be found out is not known
            found[name] = calls[name]()

    # Daemons: nobody waits for one that hangs, not even the end of the program.
    threads = [threading.Thread(target=call, args=(name,), daemon=True) for name in calls]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + seconds
    for thread in threads:
        thread.join(max(deadline - time.monotonic(), 0))
    return dict(found)


def gpus() -> list[Gpu]:
    """What nvidia-smi says; empty where there is none."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    argv = [program, f"--query-gpu={','.join(_GPU)}", "--format=csv,noheader,nounits"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=10, check=True)
    return parse_gpus(done.stdout)


def parse_gpus(text: str) -> list[Gpu]:
    """From nvidia-smi's lines; what it does not know it calls [N/A]."""

    def number(word: str) -> int | None:
        return int(word) if word.isdigit() else None

    found = []
    for row in csv.reader(text.splitlines(), skipinitialspace=True):
        if len(row) == len(_GPU) and row[0].isdigit():
            used, total = number(row[2]), number(row[3])
            found.append(
                Gpu(
                    int(row[0]),
                    row[1],
                    None if used is None else used * MIB,
                    None if total is None else total * MIB,
                    number(row[4]),
                )
            )
    return found


def secrets(folder: Path) -> list[str]:
    """What the files of secrets hold, as far as they may be read."""
    found = []
    for path in folder.iterdir() if folder.is_dir() else ():
        with contextlib.suppress(OSError, UnicodeDecodeError):
            found.append(path.read_text("utf-8").strip())
    return found


def last_error(places: Mapping[str, Path | str], hide: list[str]) -> LastError | None:
    """The newest error of all logs.

    Args:
        places: part -> log file or container.
        hide: what must not be shown.
    """

    def of(part: str, place: Path | str) -> Line | None:
        if isinstance(place, Path):
            lines, _ = files.tail(part, place, lambda _: True)
        else:
            lines = docker.read(part, place, 0, _LINES)
        return next((line for line in reversed(lines) if is_error(line.text)), None)

    found = together({part: partial(of, part, place) for part, place in places.items()}, DEADLINE / 2)
    newest = max((line for line in found.values() if line), key=lambda line: line.time, default=None)
    if newest is None:
        return None
    text = hidden.line(newest.text, hide)
    return LastError(newest.part, newest.time, text if len(text) <= _LONGEST else f"{text[:_LONGEST]}...")

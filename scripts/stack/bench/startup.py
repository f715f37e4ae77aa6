"""`./runMe.sh bench --startup`: how long the stack takes to its first answer, next to bare `vllm serve`, in one run."""

from __future__ import annotations

import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median
from typing import Any

from rich.table import Table

from stack import engine_phase, gateway, plan, views
from stack.bench import breakdown, caches, memory
from stack.bench.breakdown import ANSWERED, CHECKED, DATABASE, GATEWAY, LISTENS, STARTED, Start
from stack.errors import ConfigError, Problem, RunError
from stack.local_key import LOCAL_KEY
from stack.runtime import probe, secret_files
from stack.runtime.layout import Layout
from stack.runtime.native import Native
from stack.runtime.spec import read_services

LONGEST = 3600.0
POLL = 0.05


def run(layout: Layout, environ: Mapping[str, str], as_json: bool, cold: bool = False, repeat: int = 1) -> int:
    """Measure starts of the stack and of bare `vllm serve` in turn, and show where the seconds go.

    Args:
        layout: folders.
        environ: the caller's environment.
        as_json: print JSON instead of tables; seconds and bytes.
        cold: without the page cache and with empty compile caches, instead of a second start that finds everything.
        repeat: how often each is started; medians count.

    Returns:
        The exit status.

    Raises:
        ConfigError: the runtime is Docker, or a stack is running, which measuring would disturb.
        RunError: a start failed.
    """
    if plan.early("RUNTIME", layout.root, environ) == "docker":
        what = "measures the native runtime only, and RUNTIME is docker"
        raise ConfigError(Problem("bench --startup", what, "RUNTIME=native ./runMe.sh bench --startup"))
    native = Native(layout)
    if native.watchers()["supervisor"]:
        raise ConfigError(Problem("bench", "a stack is running", "measuring needs the machine: ./runMe.sh down"))
    environ = {**environ, "RUNTIME": "native"}
    own_caches = layout.state / "bench" / "caches"
    if cold:
        environ = caches.apart(environ, own_caches)
    made = plan.make(layout.root, environ, [])
    notes: list[str] = []

    def prepare() -> None:
        if cold:
            caches.empty(own_caches)
            notes[:] = filter(None, [caches.drop_page_cache()])

    _say("first start, so that the measured ones find everything installed and downloaded")
    _stack_start(layout, environ, made)
    starts, bare = [], []
    try:
        for number in range(1, repeat + 1):
            prepare()
            _say(f"{'cold' if cold else 'second'} start, {number} of {repeat}")
            starts.append(_stack_start(layout, environ, made))
            prepare()
            _say(f"bare vllm serve, {number} of {repeat}")
            bare.append(_bare_start(layout, made))
    finally:
        if cold:
            shutil.rmtree(own_caches, ignore_errors=True)
    generator = _generator(layout, environ, made)
    if as_json:
        stack = [start.moments[ANSWERED] for start in starts]
        data = {
            "model": made.served.name,
            "cold": cold,
            "notes": notes,
            "stack": round(median(stack), 3),
            "bare": round(median(bare), 3),
            "ratio": round(breakdown.ratio(stack, bare), 3),
            "generator": round(generator, 3),
            "stack_all": [round(seconds, 3) for seconds in stack],
            "bare_all": [round(seconds, 3) for seconds in bare],
            "start": breakdown.middle(starts).data(),
        }
        views.print_json(data)
        return 0
    _show(made, starts, bare, generator, cold, notes)
    return 0


def _show(made: plan.Plan, starts: list[Start], bare: list[float], generator: float, cold: bool, notes: list[str]) -> None:
    console = views.console()
    start = breakdown.middle(starts)
    whole = start.moments[ANSWERED]
    kind = "cold start" if cold else "second start"
    table = Table(title=f"{made.served.name}, {kind}, seconds; {_machine()}", title_justify="left", box=None)
    for column, justify in (("from typing ./runMe.sh on", "left"), ("from", "right"), ("took", "right"), ("", "left")):
        table.add_column(column, justify="right" if justify == "right" else "left")
    for span in breakdown.spans(start):
        table.add_row(span.name, f"{span.begin:.1f}", f"{span.seconds:.1f}", breakdown.bar(span, whole))
    console.print(table)
    stack = [one.moments[ANSWERED] for one in starts]
    console.print(f"\nto the first answer through the gateway  {breakdown.spread(stack)} s")
    console.print(f"bare vllm serve to its first answer      {breakdown.spread(bare)} s")
    console.print(f"ratio, stack / bare                      {breakdown.ratio(stack, bare):.3f}")
    console.print(f"the two generator scripts together       {generator:.2f} s")
    console.print("\nmemory at the first answer, MB (PSS: shared pages count by their share)")
    for name, size in start.memory.items():
        console.print(f"  {name:<20}{size / 1e6:8.0f}")
    for note in notes:
        console.print(f"note: {note}")


def _stack_start(layout: Layout, environ: Mapping[str, str], made: plan.Plan) -> Start:
    """Start by runMe.sh, ask one question, stop."""
    resolved = made.resolved
    start = Start()
    began, typed = time.monotonic(), time.time()
    command = [str(layout.scripts.parent / "runMe.sh")]
    process = subprocess.Popen(command, env=dict(environ), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    url = f"http://127.0.0.1:{resolved['LITELLM_PORT']}"
    checks: dict[str, Callable[[], bool]] = {
        DATABASE: lambda: probe.listens("127.0.0.1", resolved["POSTGRES_PORT"]),
        # A request would say more, but also warm the gateway up.
        GATEWAY: lambda: probe.listens("127.0.0.1", resolved["LITELLM_PORT"]),
        LISTENS: lambda: probe.listens("127.0.0.1", resolved["ENGINE_PORT"]),
        ANSWERED: lambda: LISTENS in start.moments and _answers(url, LOCAL_KEY, made),
    }
    try:
        while ANSWERED not in start.moments:
            for name, check in checks.items():
                if name not in start.moments and check():
                    start.moments[name] = time.monotonic() - began
            _note_phase(start, layout.generated, typed, time.monotonic() - began)
            if process.poll() not in (None, 0):
                raise RunError(Problem("./runMe.sh", f"exited with {process.returncode}", process.stderr.read()[-400:]))
            if time.monotonic() - began > LONGEST:
                raise RunError(Problem("./runMe.sh", f"no answer within {LONGEST:g} s"))
            time.sleep(POLL)
        watch = Native(layout).watch
        start.memory = memory.measure(watch)
        # What the checks let through is written down at once, and then the processes are started.
        start.moments[CHECKED] = (layout.run / "services.json").stat().st_mtime - typed
        ages = [part.seconds for part in watch.parts() if part.name == "engine" and part.pid]
        if ages:
            start.moments[STARTED] = time.time() - ages[0] - typed
        process.wait()
    finally:
        subprocess.run([*command, "down"], env=dict(environ), capture_output=True)
    return start


def _note_phase(start: Start, folder: Path, typed: float, now: float) -> None:
    """Add the phase the engine is in, if it is another one than before and not left over from an earlier start."""
    phase = engine_phase.read(folder)
    # The first line of a start has whole seconds only.
    if phase.since >= int(typed) and (not start.phases or start.phases[-1][1] != phase.name):
        start.phases.append((now, phase.name))


def _bare_start(layout: Layout, made: plan.Plan) -> float:
    """The engine's own command in the engine's own environment, without this project around it."""
    (engine,) = [service for service in read_services(layout.run / "services.json") if service.name == "engine"]
    argv = (layout.generated / "engine.argv").read_bytes().decode().rstrip("\0").split("\0")
    key = secret_files.read(layout.secrets, "VLLM_API_KEY")
    began = time.monotonic()
    process = subprocess.Popen(
        ["env", "--", *argv],
        env={**engine.env, "VLLM_API_KEY": key},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        while not _answers(f"http://127.0.0.1:{made.resolved['ENGINE_PORT']}", key, made):
            if process.poll() is not None:
                raise RunError(Problem("vllm serve", f"exited with {process.returncode}"))
            time.sleep(POLL)
        return time.monotonic() - began
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait()


def _answers(url: str, key: str, made: plan.Plan) -> bool:
    """Whether a first question gets an answer. Asked only once the engine listens: failures cost the gateway time."""
    if not probe.listens("127.0.0.1", made.resolved["ENGINE_PORT"]):
        return False
    path, body = gateway.example_request(made.served, "Hello")
    if not gateway.is_pooling(made.served):
        body["max_tokens"] = 1
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    request = urllib.request.Request(url + path, data=json.dumps(body).encode(), headers=headers)
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=60) as answer:
            return bool(answer.status == 200)
    except (OSError, urllib.error.HTTPError):
        return False


def _generator(layout: Layout, environ: Mapping[str, str], made: plan.Plan) -> float:
    """Both generator scripts, as the engine's entry runs them."""
    env: dict[str, Any] = {**environ, "STACK_PYTHON": sys.executable, "CONFIG_DIR": str(layout.state / "bench")}
    env["STACK_ROOT"] = str(layout.root)
    began = time.monotonic()
    for argv in (
        [str(layout.scripts / "gen_models_yml.sh"), "--model", made.served.name],
        [sys.executable, str(layout.scripts / "generate_litellm_config.py")],
    ):
        subprocess.run(argv, env=env, check=True, capture_output=True)
    return time.monotonic() - began


def _machine() -> str:
    return f"{os.cpu_count()} cores, {platform.machine()}, {time.strftime('%Y-%m-%d')}"


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)

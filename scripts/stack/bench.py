"""`./runMe.sh bench --startup`: how long the stack takes to its first answer, next to bare `vllm serve`, in one run."""

from __future__ import annotations

import json
import os
import platform
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from typing import Any

from rich.table import Table

from stack import gateway, plan, views
from stack.errors import ConfigError, Problem, RunError
from stack.local_key import LOCAL_KEY
from stack.runtime import probe, secret_files
from stack.runtime.layout import Layout
from stack.runtime.native import Native
from stack.runtime.spec import read_services

LONGEST = 3600.0


def startup(layout: Layout, environ: Mapping[str, str], as_json: bool) -> int:
    """Measure a second start: everything is installed, downloaded and compiled already.

    Raises:
        ConfigError: a stack is running, which measuring would disturb.
    """
    native = Native(layout)
    if native.watchers()["supervisor"]:
        raise ConfigError(Problem("bench", "a stack is running", "measuring needs the machine: ./runMe.sh down"))
    environ = {**environ, "RUNTIME": "native"}
    made = plan.make(layout.root, environ, [])
    results: dict[str, float] = {}
    _say("first start, so that the measured one finds everything in place")
    _stack_start(layout, environ, made)
    _say("second start")
    results.update(_stack_start(layout, environ, made))
    _say("bare vllm serve")
    results["bare"] = _bare_start(layout, made)
    results["ratio"] = results["stack"] / results["bare"]
    results["generator"] = _generator(layout, environ, made)
    if as_json:
        views.print_json({"model": made.served.name, **{key: round(value, 3) for key, value in results.items()}})
        return 0
    table = Table(title=f"{made.served.name}, seconds to the first answer; {_machine()}", title_justify="left", box=None)
    table.add_column("what")
    table.add_column("seconds", justify="right")
    for key, text in (
        ("database", "database takes connections"),
        ("gateway", "gateway answers"),
        ("stack", "./runMe.sh, second start, to the first answer through the gateway"),
        ("bare", "bare vllm serve to its first answer"),
    ):
        if key in results:
            table.add_row(text, f"{results[key]:.1f}")
    table.add_row("ratio, stack / bare", f"{results['ratio']:.3f}")
    table.add_row("the two generator scripts together", f"{results['generator']:.2f}")
    views.console().print(table)
    return 0


def _stack_start(layout: Layout, environ: Mapping[str, str], made: plan.Plan) -> dict[str, float]:
    """Start by runMe.sh, ask one question, stop. Seconds since the command was typed."""
    resolved = made.resolved
    began = time.monotonic()
    command = [str(layout.scripts.parent / "runMe.sh")]
    process = subprocess.Popen(command, env=dict(environ), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    url = f"http://127.0.0.1:{resolved['LITELLM_PORT']}"
    checks: dict[str, Callable[[], bool]] = {
        "database": lambda: probe.listens("127.0.0.1", resolved["POSTGRES_PORT"]),
        "gateway": lambda: probe.get(f"{url}/health/readiness")[0] == 200,
        "stack": lambda: _answers(url, LOCAL_KEY, made),
    }
    seen: dict[str, float] = {}
    try:
        while "stack" not in seen:
            for name, check in checks.items():
                if name not in seen and check():
                    seen[name] = time.monotonic() - began
            if process.poll() not in (None, 0):
                raise RunError(Problem("./runMe.sh", f"exited with {process.returncode}", process.stderr.read()[-400:]))
            if time.monotonic() - began > LONGEST:
                raise RunError(Problem("./runMe.sh", f"no answer within {LONGEST:g} s"))
            time.sleep(0.05)
        process.wait()
    finally:
        subprocess.run([*command, "down"], env=dict(environ), capture_output=True)
    return seen


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
            time.sleep(0.05)
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

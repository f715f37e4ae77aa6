"""`./runMe.sh bench`: load on the stack that runs, through the gateway and on the engine alone, in turn.

Requests come from `vllm bench serve`, natively from the engine's environment, with Docker in the engine's container.
"""

from __future__ import annotations

import json
import os
import platform
import re
import shlex
import subprocess
import tempfile
import urllib.request
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any

from stack import gateway
from stack.bench import tool
from stack.bench.place import Place, here, litellm_version, output, place_of
from stack.bench.report import DIRECT, GATEWAY, Result, Row
from stack.bench.tool import Load
from stack.errors import ConfigError, Problem, RunError
from stack.plan import Plan
from stack.releases import Release, Releases
from stack.runtime import probe, secret_files
from stack.runtime.layout import Layout
from stack.runtime.report import Report
from stack.runtime.watch import CHAT

# Not the local key: it may have MAX_PARALLEL_REQUESTS under way only.
KEYS = {DIRECT: "VLLM_API_KEY", GATEWAY: "LITELLM_MASTER_KEY"}
# tqdm's: `12/64 [00:05<00:20,`
PROGRESS = re.compile(r"(\d+)/(\d+) \[")
# The gateway's first requests after a start look up their key and import what they need.
WARM_UP = 4


def run(layout: Layout, runtime: Any, load: Load, report: Report) -> Result:
    """Measure each concurrency on both sides; who is first changes from one to the next.

    Args:
        layout: folders.
        runtime: Docker or Native; see deploy.Runtime.
        load: what to ask.
        report: told where it stands.

    Raises:
        ConfigError: no stack runs, it is not ready, or the model cannot answer such requests.
        RunError: the tool failed, or one of the two does not answer.
    """
    release = running(layout, runtime)
    plan = release.plan()
    check(plan, load)
    keys = {side: secret_files.read(layout.secrets, name) for side, name in KEYS.items()}
    began = datetime.now().astimezone()
    _warm_up(plan, load, keys, report)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        place = place_of(layout, runtime.name, plan, folder)
        options = tool.tokenizer(place.engine_argv, place.hub, release.revision)
        for turn, concurrency in enumerate(load.concurrency):
            for side in (DIRECT, GATEWAY) if turn % 2 == 0 else (GATEWAY, DIRECT):
                name = f"bench-{began:%Y%m%d-%H%M%S}-{side}-{concurrency}"
                file = f"{place.folder}/{name}.json"
                argv = tool.argv(place.vllm, load, place.urls[side], concurrency, options, name, file)
                label = f"{side}, {concurrency} at once"
                text = _measure(place, argv, file, keys[side], label, report)
                rows.append(row := tool.parse(text, load, side, concurrency, argv))
                failed = f", {row.errors} of {row.requests} failed" if row.errors else ""
                report.finished(label, f"{row.output_tokens_per_s:.1f} tokens/s{failed}")
    return Result(
        date=began.isoformat(timespec="seconds"),
        model=plan.served.name,
        runtime=runtime.name,
        command=command(load),
        machine=machine(),
        versions={"vllm": _vllm_version(plan), "litellm": litellm_version(layout, runtime.name)},
        settings={"route": load.route, "input_tokens": load.input_tokens, "output_tokens": load.output_tokens},
        rows=tuple(rows),
    )


def command(load: Load) -> str:
    """What to type for the same load."""
    words = ["./runMe.sh", "bench", "--concurrency", ",".join(map(str, load.concurrency)), "--route", load.route]
    words += ["--input-tokens", str(load.input_tokens), "--output-tokens", str(load.output_tokens)]
    return shlex.join(words + (["--requests", str(load.requests)] if load.requests else []))


def running(layout: Layout, runtime: Any) -> Release:
    """The release that runs.

    Raises:
        ConfigError: none does, or it is not ready.
    """
    release = Releases(layout.releases).current()
    parts = runtime.parts()
    if release is None or not parts or all(part.state == "stopped" for part in parts):
        raise ConfigError(Problem("bench", "no stack runs", "start it first: ./runMe.sh"))
    waiting = [f"{part.name}: {part.detail}" for part in parts if part.state != "ready" and part.name != CHAT]
    if waiting:
        raise ConfigError(Problem("bench", f"the stack is not ready: {', '.join(waiting)}", "see ./runMe.sh status"))
    return release


def check(plan: Plan, load: Load) -> None:
    """Raise ConfigError if the served model cannot answer such requests."""
    served = plan.served
    if gateway.is_pooling(served):
        raise ConfigError(Problem("bench", f"{served.name} does not generate text", "serve another model: MODEL=..."))
    context = gateway.context_length(served)
    wanted = load.input_tokens + load.output_tokens
    if context is not None and wanted > context:
        what = f"{wanted} tokens in and out are more than {served.name}'s context, {context}"
        raise ConfigError(Problem("bench", what, "choose fewer: --input-tokens, --output-tokens"))


def _warm_up(plan: Plan, load: Load, keys: Mapping[str, str], report: Report) -> None:
    """A few requests to each side, not measured.

    Raises:
        RunError: one of the two does not answer.
    """
    path, urls = tool.ROUTES[load.route][1], here(plan)
    text = {"messages": [{"role": "user", "content": "Hello"}]} if load.route == "chat" else {"prompt": "Hello"}
    body = json.dumps({"model": gateway.CANONICAL_NAME, "max_tokens": 8, **text}).encode()
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def ask(side: str) -> None:
        headers = {"Authorization": f"Bearer {keys[side]}", "Content-Type": "application/json"}
        request = urllib.request.Request(urls[side] + path, data=body, headers=headers)
        try:
            with opener.open(request, timeout=300) as answer:
                answer.read()
        except OSError as error:
            raise RunError(Problem(side, f"does not answer {path}: {error}", "look: ./runMe.sh logs")) from None

    report.phase("warm-up", "a few requests to each side, not measured")
    with ThreadPoolExecutor(WARM_UP) as pool:
        for side in (DIRECT, GATEWAY):
            list(pool.map(ask, [side] * WARM_UP))
    report.finished("warm-up", "done")


def _vllm_version(plan: Plan) -> str:
    answer = probe.get(f"{here(plan)[DIRECT]}/version")[1]
    return str(answer.get("version", "")) if isinstance(answer, dict) else ""


def _measure(place: Place, argv: list[str], file: str, key: str, label: str, report: Report) -> str:
    """Run the tool once and return its result file.

    Raises:
        RunError: with the last lines it printed.
    """
    env = {**place.env, "OPENAI_API_KEY": key}
    report.phase(label, "vllm bench serve starts")
    process = subprocess.Popen([*place.prefix, *argv], env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert process.stdout is not None
    said = ""
    try:
        while piece := os.read(process.stdout.fileno(), 1 << 16):
            said = (said + piece.decode("utf-8", "replace"))[-8000:]
            for done, total in PROGRESS.findall(said)[-1:]:
                report.phase(label, f"{done} of {total} requests", int(done) / max(int(total), 1))
    except BaseException:
        process.terminate()
        raise
    finally:
        process.wait()
    if process.returncode != 0:
        last = "\n    ".join(said.replace("\r", "\n").strip().splitlines()[-8:])
        raise RunError(Problem("vllm bench serve", f"exited with {process.returncode}\n    {last}"))
    text = output([*place.prefix, "cat", file], env)
    output([*place.prefix, "rm", "-f", file], env)
    return text


def machine() -> dict[str, Any]:
    """Cores, architecture, and the names of processor and GPUs as far as they say."""
    found: dict[str, Any] = {"cores": os.cpu_count(), "arch": platform.machine(), "cpu": "", "gpu": ""}
    names = re.findall(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text("utf-8", "replace"), re.MULTILINE)
    found["cpu"] = names[0].strip() if names else ""
    try:
        query = ["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader"]
        done = subprocess.run(query, capture_output=True, text=True, timeout=20)
        found["gpu"] = (
            "; ".join(line.strip() for line in done.stdout.splitlines() if line.strip()) if not done.returncode else ""
        )
    except (OSError, subprocess.TimeoutExpired):
        pass
    return found

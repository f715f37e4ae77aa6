"""Measuring with a stand-in for `vllm bench serve` and for the runtime; the command line around it."""

from __future__ import annotations

import json
import os
import sys
import urllib.error
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from stack import cli, plan
from stack.bench import load, place
from stack.bench.report import DIRECT, GATEWAY
from stack.bench.tool import Load
from stack.errors import ConfigError, RunError
from stack.releases import Releases
from stack.runtime.layout import Layout
from stack.runtime.report import Silent
from stack.runtime.spec import Service, write_services
from stack.runtime.watch import Part

MODEL = "description: d\ncommand: vllm serve org/m --max-model-len 4096\n"
READY = [Part(name, "ready", "answers") for name in ("database", "engine", "gateway")]
# Writes what it was called with beside the figures, as the real one writes its result.
TOOL = """#!{python}
import json, os, pathlib, sys
option = lambda name: sys.argv[sys.argv.index(name) + 1]
count = int(option("--num-prompts"))
calls = pathlib.Path(os.environ["CALLS"])
with calls.open("a") as file:
    file.write(json.dumps([sys.argv[1:], os.environ["OPENAI_API_KEY"], os.environ["no_proxy"]]) + "\\n")
if "FAIL" in os.environ:
    print("RuntimeError: no such tokenizer")
    sys.exit(3)
print(f"  50%|### | {{count // 2}}/{{count}} [00:01<00:01]", file=sys.stderr)
slow = 2 if "4100" in option("--base-url") else 1
result = dict(errors=[""] * count, ttfts=[0.1] * count, latencies=[1.0] * count, itls=[[]] * count)
result["output_lens"] = [int(option("--random-output-len"))] * count
result["duration"] = 1.0 * slow
(pathlib.Path(option("--result-dir")) / option("--result-filename")).write_text(json.dumps(result))
"""

# `docker exec` into a container that is this machine.
DOCKER = """#!{python}
import os, sys
words = sys.argv[2:]
while words[0].startswith("--"):
    name, given, value = words[1].partition("=")
    if words[0] == "--env" and given:
        os.environ[name] = value
    del words[:2]
container, *argv = words
if container == "litellm":
    print("1.108.14")
elif argv[0] == "stat":
    print("1000:1000")
elif argv == ["cat", "/app/generated_configs/engine.argv"]:
    print("HF_HOME=/home/vllm/.cache/huggingface", "vllm", "serve", "/app/weights", sep="\\0", end="\\0")
else:
    os.execvp(argv[0], argv)
"""


@dataclass
class Fake:
    """A runtime with parts in a given state."""

    states: list[Part] = field(default_factory=lambda: list(READY))
    name: str = "native"

    def parts(self) -> list[Part]:
        return self.states


@dataclass
class Stack:
    """A stack as native up leaves it behind, without its processes."""

    layout: Layout
    runtime: Fake
    calls: Path

    def called(self) -> list[Any]:
        return [json.loads(line) for line in self.calls.read_text().splitlines()]


@pytest.fixture
def stack(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stack:
    (root / "models" / "m.yml").write_text(MODEL)
    environ = {"MODEL": "m", "LITELLM_PORT": "4100", "ENGINE_PORT": "8100"}
    for key, value in {"STACK_ROOT": str(root), "STATE_DIR": str(tmp_path / "state"), **environ}.items():
        monkeypatch.setenv(key, value)
    layout = Layout.from_environ(os.environ)
    known = Releases(layout.releases)
    known.activate(known.propose(root, environ, [], plan.make(root, environ, []), "native"))
    program = tmp_path / "engine" / "bin" / "vllm"
    program.parent.mkdir(parents=True)
    program.write_text(TOOL.format(python=sys.executable))
    program.chmod(0o755)
    calls = tmp_path / "calls"
    env = {
        "PATH": f"{program.parent}:/usr/bin:/bin",
        "CALLS": str(calls),
        "http_proxy": "http://proxy:1",
        "no_proxy": "inside",
    }
    python = tmp_path / "gateway" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text("#!/bin/sh\necho 1.108.7\n")
    python.chmod(0o755)
    layout.run.mkdir(parents=True)
    proxy = Service("gateway", ("bash",), {"PATH": f"{python.parent}:/usr/bin"}, "log")
    write_services(layout.run / "services.json", [Service("engine", ("bash",), env, "log"), proxy])
    layout.generated.mkdir(parents=True)
    (layout.generated / "engine.argv").write_text("STACK_MODEL=m\0HF_HOME=/hf\0vllm\0serve\0org/m\0--port\08100\0")
    layout.secrets.mkdir(exist_ok=True)
    (layout.secrets / "VLLM_API_KEY").write_text("sk-engine\n")
    (layout.secrets / "LITELLM_MASTER_KEY").write_text("sk-master\n")
    monkeypatch.setattr(load, "_warm_up", lambda *_: None)
    monkeypatch.setattr(load, "_vllm_version", lambda *_: "0.32.0")
    runtime = Fake()
    monkeypatch.setattr(cli, "_runtime", lambda *_, **__: runtime)
    return Stack(layout, runtime, calls)


def test_sides_take_turns_and_get_the_same_prompts(stack: Stack) -> None:
    result = load.run(stack.layout, stack.runtime, Load(concurrency=(1, 4), requests=6), Silent())
    called = stack.called()
    urls = [argv[argv.index("--base-url") + 1] for argv, _, _ in called]
    assert urls == [f"http://127.0.0.1:{port}" for port in (8100, 4100, 4100, 8100)]
    assert [(row.side, row.concurrency) for row in result.rows] == [(DIRECT, 1), (GATEWAY, 1), (GATEWAY, 4), (DIRECT, 4)]
    assert {argv[argv.index("--seed") + 1] for argv, _, _ in called} == {"1"}
    salts = [argv[argv.index("--extra-body") + 1] for argv, _, _ in called]
    assert len(set(salts)) == 4
    assert [result.ratio(1), result.ratio(4)] == [0.5, 0.5]


def test_keys_travel_by_environment_and_no_proxy_is_asked(stack: Stack) -> None:
    load.run(stack.layout, stack.runtime, Load(concurrency=(1,)), Silent())
    assert [key for _, key, _ in stack.called()] == ["sk-engine", "sk-master"]
    assert "sk-" not in json.dumps([argv for argv, _, _ in stack.called()])
    assert {no_proxy for _, _, no_proxy in stack.called()} == {"inside,127.0.0.1"}


def test_in_the_engines_container(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = load_services(stack)[0]
    folder = Path(engine["PATH"].split(":")[0])
    (folder / "docker").write_text(DOCKER.format(python=sys.executable))
    (folder / "docker").chmod(0o755)
    monkeypatch.setenv("PATH", engine["PATH"])
    monkeypatch.setenv("CALLS", str(stack.calls))
    stack.runtime.name = "docker"
    result = load.run(stack.layout, stack.runtime, Load(concurrency=(1,)), Silent())
    (direct, key, no_proxy), (through, master, _) = stack.called()
    assert (key, master, no_proxy) == ("sk-engine", "sk-master", "127.0.0.1,litellm")
    assert direct[direct.index("--base-url") + 1] == "http://127.0.0.1:8000"
    assert through[through.index("--base-url") + 1] == "http://litellm:4000"
    assert direct[direct.index("--tokenizer") + 1] == "/app/weights"
    assert direct[direct.index("--result-dir") + 1] == "/tmp"
    assert not Path("/tmp", direct[direct.index("--result-filename") + 1]).exists()
    assert result.rows[0].output_tokens_per_s == 256.0
    assert result.versions["litellm"] == "1.108.14"


def test_result_says_how_it_came_about(stack: Stack) -> None:
    result = load.run(stack.layout, stack.runtime, Load(concurrency=(4,), route="completions"), Silent())
    assert (result.model, result.runtime) == ("m", "native")
    assert result.settings == {"route": "completions", "input_tokens": 128, "output_tokens": 32}
    assert result.command == "./runMe.sh bench --concurrency 4 --route completions --input-tokens 128 --output-tokens 32"
    assert result.versions == {"vllm": "0.32.0", "litellm": "1.108.7"}
    assert result.machine["cores"] == os.cpu_count()
    assert list(result.rows[0].command[1:3]) == ["bench", "serve"]
    assert result.rows[0].output_tokens_per_s == 256.0


@pytest.mark.parametrize(
    ("states", "message"),
    [
        ([], "no stack runs"),
        ([Part(part.name, "stopped", "not started") for part in READY], "no stack runs"),
        ([*READY[:2], Part("gateway", "starting", "does not answer yet")], "not ready: gateway: does not answer yet"),
    ],
)
def test_without_a_stack_nothing_is_measured(states: list[Part], message: str, stack: Stack) -> None:
    stack.runtime.states = states
    with pytest.raises(ConfigError, match=message):
        load.run(stack.layout, stack.runtime, Load(), Silent())
    assert not stack.calls.exists()


def test_more_tokens_than_the_context_are_refused(stack: Stack) -> None:
    with pytest.raises(ConfigError, match="4097 tokens in and out are more than m's context, 4096"):
        load.run(stack.layout, stack.runtime, Load(input_tokens=4090, output_tokens=7), Silent())


def test_a_tool_that_fails_is_quoted(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = load_services(stack)[0]
    write_services(stack.layout.run / "services.json", [Service("engine", ("bash",), {**engine, "FAIL": "1"}, "log")])
    with pytest.raises(RunError, match=r"exited with 3\n    RuntimeError: no such tokenizer"):
        load.run(stack.layout, stack.runtime, Load(concurrency=(1,)), Silent())


def load_services(stack: Stack) -> list[dict[str, str]]:
    return [one["env"] for one in json.loads((stack.layout.run / "services.json").read_text())]


def test_interrupted_it_ends_the_tool(stack: Stack, tmp_path: Path) -> None:
    program = Path(load_services(stack)[0]["PATH"].split(":")[0]) / "vllm"
    program.write_text(f"#!/bin/sh\necho $$ >{tmp_path}/pid\necho '1/8 [00:01'\nexec sleep 600\n")

    class Impatient(Silent):
        def phase(self, name: str, text: str, done: float | None = None) -> None:
            if done:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        load.run(stack.layout, stack.runtime, Load(concurrency=(1,)), Impatient())
    assert not Path("/proc", (tmp_path / "pid").read_text().strip()).exists()


def test_progress_is_reported(stack: Stack) -> None:
    seen: list[tuple[str, str, float | None]] = []

    class Noted(Silent):
        def phase(self, name: str, text: str, done: float | None = None) -> None:
            seen.append((name, text, done))

    load.run(stack.layout, stack.runtime, Load(concurrency=(1,)), Noted())
    assert ("gateway, 1 at once", "4 of 8 requests", 0.5) in seen


def test_docker_exec_names_the_key_only() -> None:
    urls = {DIRECT: "http://127.0.0.1:8000", GATEWAY: "http://litellm:4000"}
    assert place.container_prefix("vllm-container", "1000:1000", urls) == (
        "docker", "exec", "--user", "1000:1000",
        "--env", "OPENAI_API_KEY",
        "--env", "NO_PROXY=127.0.0.1,litellm",
        "--env", "no_proxy=127.0.0.1,litellm",
        "--env", "HOME=/tmp",
        "--env", "USER=vllm",
        "--env", "LOGNAME=vllm",
        "vllm-container",
    )  # fmt: skip


def test_assignments_and_arguments_are_told_apart() -> None:
    assert place.split("A=1\0B=x=y\0vllm\0serve\0org/m\0--x={}\0") == (
        {"A": "1", "B": "x=y"},
        ("vllm", "serve", "org/m", "--x={}"),
    )


@pytest.mark.parametrize(
    ("env", "prefix", "hub"),
    [({}, (), "/hf/hub"), ({"HF_HUB_CACHE": "/own"}, (), "/own"), ({"HF_HUB_CACHE": "/own"}, ("docker",), "/hf/hub")],
)
def test_hub_is_the_engines(env: Mapping[str, str], prefix: tuple[str, ...], hub: str) -> None:
    assert place.Place(prefix, "vllm", {}, "/tmp", env, {"HF_HOME": "/hf"}, ()).hub == hub


@pytest.fixture
def run(stack: Stack, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    def command(*arguments: str) -> tuple[int, str, str]:
        status = cli.main(["bench", *arguments])
        printed = capsys.readouterr()
        return status, printed.out, printed.err

    return command


def test_command_saves_compares_and_writes_a_page(run: Any, stack: Stack, tmp_path: Path) -> None:
    status, out, err = run("--concurrency", "4,1", "--requests", "2")
    assert (status, "gateway, 4 at once" in err) == (0, True)
    assert "64.0" in out
    (first,) = (stack.layout.state / "bench").glob("load-*.json")
    page = tmp_path / "page.html"
    status, out, _ = run("--concurrency", "1", "--requests", "4", "--compare", str(first), "--html", str(page))
    assert status == 0
    assert "128.0 (+100 %)" in out
    assert "+100 %" in page.read_text()


def test_json_is_all_there_is_on_standard_output(run: Any) -> None:
    status, out, _ = run("--concurrency", "1", "--json")
    data = json.loads(out)
    assert status == 0
    assert data["ratio_gateway_direct"] == {"1": 0.5}
    assert json.loads(Path(data["file"]).read_text())["rows"] == data["rows"]


def test_nothing_runs(run: Any, stack: Stack) -> None:
    stack.runtime.states = []
    status, out, err = run()
    assert (status, out) == (2, "")
    assert err == "error: bench: no stack runs\n  start it first: ./runMe.sh\nnothing was started or changed\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--compare", "nowhere.json"], "--compare nowhere.json: cannot be read"),
        (["--compare", "last"], "--compare last: no result in"),
        (["--html", "/nowhere/page.html"], "--html /nowhere/page.html: is not a file"),
        (["--html", "/"], "--html /: is not a file"),
        (["--startup", "--concurrency", "1"], "bench --startup: takes no other option"),
        (["--startup", "--compare", "last"], "bench --startup: takes no other option"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_measured(
    run: Any, stack: Stack, arguments: list[str], message: str
) -> None:
    status, _, err = run(*arguments)
    assert status == 2
    assert message in err
    assert not stack.calls.exists()


@pytest.mark.parametrize(
    "arguments", [["--concurrency", "1,0"], ["--concurrency", ""], ["--requests", "-1"], ["--route", "x"]]
)
def test_wrong_options_end_with_2(run: Any, arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        run(*arguments)
    assert ended.value.code == 2


def test_failed_requests_end_with_1(run: Any, stack: Stack) -> None:
    program = Path(load_services(stack)[0]["PATH"].split(":")[0]) / "vllm"
    program.write_text(program.read_text().replace('errors=[""] * count', 'errors=["", *["refused"] * (count - 1)]'))
    status, out, _ = run("--concurrency", "1", "--requests", "3")
    assert status == 1
    assert "2 of 3" in out
    assert "gateway, 1 at once: refused" in out


def test_warm_up_that_gets_no_answer_is_an_error(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()

    def refuse(*_: object, **__: object) -> object:
        raise urllib.error.URLError("refused")

    monkeypatch.setattr("urllib.request.OpenerDirector.open", refuse)
    made = Releases(stack.layout.releases).current()
    assert made
    with pytest.raises(RunError, match="direct: does not answer /v1/chat/completions"):
        load._warm_up(made.plan(), Load(), {DIRECT: "a", GATEWAY: "b"}, Silent())

"""Shipped fragments and our lists of names against the real vLLM and the real LiteLLM."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from harness import REPOSITORY
from stack import engine as stack_engine
from stack import fragment, plan, sources
from stack.fragment import Fragment
from stack.runtime import gateway_environment, install
from stack.runtime.layout import Layout
from stack.runtime.report import Silent

pytestmark = pytest.mark.only("native", reason="asks the native environments, not a stack")
LAYOUT = Layout.from_environ({"ENVS_DIR": os.environ.get("ENVS_DIR", "")})


@pytest.fixture(scope="module")
def engine() -> Path:
    return install.ensure(LAYOUT, "engine-cpu", Silent())


@pytest.fixture(scope="module")
def gateway() -> Path:
    return gateway_environment.ensure(LAYOUT, install.ensure(LAYOUT, "database", Silent()), Silent())


def check(engine: Path, commands: list[list[str]]) -> list[list[str]]:
    return stack_engine.check(commands, engine / "bin" / "python")


def shipped() -> list[Fragment]:
    return [fragment.parse(sources.read_fragment(REPOSITORY, name)) for name in sources.model_names(REPOSITORY)]


def test_vllm_accepts_what_is_executed_for_every_shipped_fragment(engine: Path) -> None:
    commands = [list(plan.make(REPOSITORY, {}, [], one.name).engine_argv) for one in shipped()]
    assert len(commands) >= 5
    assert check(engine, commands) == [[] for _ in commands]


def test_the_check_would_notice(engine: Path) -> None:
    wrong = [
        ["vllm", "serve", "m", "--tool-call-parser", "glm407"],
        ["vllm", "serve", "m", "--load-format", "fastsafetensor"],
        ["vllm", "serve", "m", "--max-model", "8192"],
        ["vllm", "serve", "m", "--swap-space", "4"],
    ]
    assert all(check(engine, wrong))


@pytest.mark.parametrize(
    ("which", "file"),
    [
        ("litellm", "litellm_params.txt"),
        ("vllm", "vllm_request_params.txt"),
        ("hf", "hf_config_keys.txt"),
        ("engine", "vllm_engine.json"),
    ],
)
def test_the_lists_of_names_are_those_of_the_real_programs(engine: Path, gateway: Path, which: str, file: str) -> None:
    environment = gateway if which == "litellm" else engine
    folder = REPOSITORY / "scripts" / "stack" / "catalogue"
    done = subprocess.run(
        [str(environment / "bin" / "python"), str(folder / "regenerate.py"), which],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    recorded = (folder / file).read_text()
    if which == "engine":
        assert "{" + done.stdout.partition("{")[2] == recorded
        return
    names = [line for line in done.stdout.splitlines() if line and line.replace("_", "").replace("-", "").isalnum()]
    assert names == recorded.split()

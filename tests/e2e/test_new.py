"""From the name of a repository, or a folder, to a serving model in two commands."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from harness import QUESTION, Stack

NAME = "HuggingFaceTB/SmolLM2-135M-Instruct"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def weights(stack: Stack) -> Path:
    """The small model's files; the stack has them since its first start."""
    (stamp,) = (Path(stack.env["ENVS_DIR"]) / "weights").glob("smollm2-135m-*/.complete")
    return stamp.parent


def copy(source: Path, target: Path) -> None:
    """For whoever the engine runs as."""
    shutil.copytree(source, target)
    for path in (target, *target.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)


def answers(stack: Stack, home: str = "") -> bool:
    """The second command, and a request."""
    stack.run(MODEL="mine", HF_HOME=home or stack.env.get("HF_HOME", ""))
    made = stack.openai().chat.completions.create(
        model="mine", temperature=0, messages=[{"role": "user", "content": QUESTION}], max_tokens=20
    )
    return "Paris" in str(made.choices[0].message.content)


@pytest.mark.only("native", reason="test_a_folder does it in a container")
def test_a_repository_in_the_hubs_cache(stack: Stack, tmp_path: Path) -> None:
    home = Path(stack.env.get("HF_HOME", tmp_path / "huggingface"))
    repository = home / "hub" / f"models--{NAME.replace('/', '--')}"
    copy(weights(stack), repository / "snapshots" / COMMIT)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMIT)
    try:
        said = stack.run("new", "mine", NAME, HF_HOME=str(home)).stdout
        assert "--max-model-len 8192" in said
        assert f"revision: {COMMIT}" in said
        assert answers(stack, str(home))
        explained = json.loads(stack.run("explain", "running", "--revision", "--json", HF_HOME=str(home)).stdout)["rows"]
        assert [(row["value"], row["origin"].partition(":")[0]) for row in explained] == [(COMMIT, "models/mine.yml")]
        assert (
            stack.run("explain", "mine", "--diff", "running", HF_HOME=str(home)).stdout == "mine and running do not differ\n"
        )
    finally:
        shutil.rmtree(repository)
        (stack.root / "models" / "mine.yml").unlink(missing_ok=True)


@pytest.mark.only("docker", reason="the test above does it natively")
def test_a_folder(stack: Stack, tmp_path: Path) -> None:
    folder = Path(os.path.realpath(stack.root)) / "a model"
    copy(weights(stack), folder)
    try:
        stack.run("new", "mine", str(folder))
        assert answers(stack)
    finally:
        shutil.rmtree(folder)
        (stack.root / "models" / "mine.yml").unlink(missing_ok=True)

"""The generated files: what is in them, and that they vouch for one another."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from stack import fragment, generate, plan, sources
from stack.errors import ConfigError, RunError

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


@pytest.mark.parametrize("name", ["glm47-flash", "minilm", "qwen3-next-coder", "smollm2-135m", "step-3.5-flash"])
def test_models_file_keeps_everything(root: Path, tmp_path: Path, name: str) -> None:
    before = fragment.parse(sources.read_fragment(root, name))
    generate.write_models((before,), tmp_path)
    (after,) = generate.read_models(tmp_path)
    assert (after.model_dump(), after.name, after.argv()) == (before.model_dump(), name, before.argv())
    for section in ("env", "litellm"):
        for key in getattr(before, section):
            assert after.entry(section, key) == before.entry(section, key)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("models: []\n", "error: models.yml: lists no model\n  make it: scripts/gen_models_yml.sh --model NAME"),
        ("a: 1\n", "error: models.yml: lists no model\n  make it: scripts/gen_models_yml.sh --model NAME"),
        ("models: [1]\n", "error: models.yml: "),
        ("models: [{name: m}]\n", "error: models.yml: "),
        ("", "error: models.yml: is empty"),
    ],
    ids=["none", "other", "not-a-model", "half-a-model", "empty"],
)
def test_bad_models_file(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "models.yml").write_text(text)
    with pytest.raises(ConfigError) as caught:
        generate.read_models(tmp_path)
    assert str(caught.value).startswith(message)


def test_write_all(root: Path, tmp_path: Path) -> None:
    made = plan.make(root, {"HF_HOME": "/cache"}, ["env.A=b c"], "minilm")
    generate.write_all(made, tmp_path)
    words = (tmp_path / "engine.argv").read_text().split("\0")
    assert words == [
        "STACK_MODEL=minilm",
        *("A=b c", "NCCL_ENABLE_SO_RCLO=1", "NCCL_IB_DISABLE=1", "VLLM_CPU_KVCACHE_SPACE=1", "HF_HOME=/cache"),
        *made.engine_argv,
        "",
    ]
    assert (tmp_path / "digest").read_text() == f"{made.engine_digest} {made.gateway_digest}\n"
    assert yaml.safe_load((tmp_path / "config.yaml").read_text()) == yaml.safe_load(made.gateway_config)
    assert sorted(entry.name for entry in tmp_path.iterdir() if entry != root) == ["config.yaml", "digest", "engine.argv"]


def test_no_digest_beside_half_written_files(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = plan.make(root, {}, [], "minilm")
    generate.write_all(made, tmp_path)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(RunError):
        generate.write_all(made, tmp_path)
    assert not (tmp_path / "digest").exists()


def _script(name: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    program = ["bash"] if name.endswith(".sh") else [sys.executable]
    env = {**os.environ, **environment}
    return subprocess.run([*program, str(SCRIPTS / name), *arguments], capture_output=True, text=True, env=env, timeout=30)


@pytest.mark.parametrize("name", ["gen_models_yml.sh", "generate_litellm_config.py"])
def test_scripts_have_help(name: str) -> None:
    done = _script(name, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"usage: {name}")


def test_scripts_write_where_they_are_told(root: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    where = ("--root", str(root), "--output", str(out))
    first = _script("gen_models_yml.sh", "--model", "minilm", *where)
    second = _script(
        "generate_litellm_config.py", *where, "--set", "LITELLM_REQUEST_TIMEOUT=5", STACK_SET="ENGINE_PORT=8123"
    )
    assert (first.returncode, first.stdout, first.stderr) == (0, f"wrote {out}/models.yml\n", "")
    assert (second.returncode, second.stdout, second.stderr) == (0, f"wrote {out}/config.yaml\n", "")
    params = yaml.safe_load((out / "config.yaml").read_text())["model_list"][0]["litellm_params"]
    assert (params["timeout"], params["api_base"]) == (5.0, "http://127.0.0.1:8123/v1")


def test_config_script_agrees_with_the_plan(root: Path, tmp_path: Path) -> None:
    environment = {"STACK_ROOT": str(root), "CONFIG_DIR": str(tmp_path / "out"), "MODEL": "smollm2-135m"}
    made = plan.make(root, {**os.environ, **environment}, [])
    assert _script("gen_models_yml.sh", **environment).returncode == 0
    assert _script("generate_litellm_config.py", **environment).returncode == 0
    assert (tmp_path / "out" / "digest").read_text() == f"{made.engine_digest} {made.gateway_digest}\n"


def test_wrong_fragment_leaves_the_old_files(root: Path, tmp_path: Path) -> None:
    where = ("--root", str(root), "--output", str(tmp_path / "out"))
    assert _script("gen_models_yml.sh", "--model", "minilm", *where).returncode == 0
    before = (tmp_path / "out" / "models.yml").read_bytes()
    (root / "models" / "minilm.yml").write_text("command: vllm serve m; x\n")
    done = _script("gen_models_yml.sh", "--model", "minilm", *where)
    assert done.returncode == 2
    assert done.stderr.startswith("error: models/minilm.yml:1: command: has ';', a shell operator\n")
    assert (tmp_path / "out" / "models.yml").read_bytes() == before


def test_output_that_cannot_be_written(root: Path, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    done = _script("gen_models_yml.sh", "--model", "minilm", "--root", str(root), "--output", str(tmp_path / "out"))
    assert done.returncode == 1
    assert "cannot be written" in done.stderr
    assert "Traceback" not in done.stderr

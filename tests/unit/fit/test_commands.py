"""`fit` on the command line, and what `up` makes of a model that cannot fit."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from stack import cli, plan
from stack.errors import ConfigError
from stack.fit import guard, machine
from stack.fit.machine import GIB, Machine, named

H100 = named("h100")
CPU = Machine("cpu", 8 * GIB, shared=True, cpu=True)


@pytest.fixture
def at(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for key, value in {"STACK_ROOT": root, "STATE_DIR": tmp_path / "state", "HF_HOME": tmp_path / "hf"}.items():
        monkeypatch.setenv(key, str(value))
    monkeypatch.setattr(machine, "here", lambda environ, build="auto": named("4090"))
    return root


def test_fits(at: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["fit", "glm47-flash", "--gpu", "gb10", "h100"]) == 0
    out = capsys.readouterr().out
    assert "\nfits gb10\n" in out
    assert "\nfits h100\n" in out
    assert "58.2 GiB" in out


def test_does_not_fit(at: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["fit", "glm47-flash", "--gpu", "gb10", "--gpu", "24GB"]) == 2
    assert "\ndoes not fit 24 GB: the weights take 58.2 GiB" in capsys.readouterr().out


def test_this_machine_and_its_model(at: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("MODEL", "qwen3-coder-30b-a3b")
    assert cli.main(["fit", "--json"]) == 2
    made = json.loads(capsys.readouterr().out)
    assert (made["model"], made["machines"][0]["machine"], made["machines"][0]["fits"]) == (
        "qwen3-coder-30b-a3b",
        "4090",
        False,
    )


def test_other_flags(at: Path, capsys: pytest.CaptureFixture[str]) -> None:
    flags = "--max-model-len 8192 --tensor-parallel-size 2"
    assert cli.main(["fit", "qwen3-coder-30b-a3b", "--gpu", "2x4090", f"--with={flags}", "--json"]) == 0
    made = json.loads(capsys.readouterr().out)["machines"][0]
    assert made["context"] == {"asked": 8192, "largest": made["context"]["largest"]}
    assert cli.main(["fit", "qwen3-coder-30b-a3b", "--with='unclosed"]) == 2
    assert "cannot be read" in capsys.readouterr().err


def test_unknown(at: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (at / "models" / "m.yml").write_text("command: vllm serve org/m\n")
    assert cli.main(["fit", "m"]) == 1
    assert "hf download org/m config.json model.safetensors.index.json" in capsys.readouterr().out
    assert cli.main(["fit", "m", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["repository"] == "org/m"


@pytest.mark.parametrize(
    ("arguments", "words"), [(["nope"], "no model 'nope'"), (["minilm", "--gpu", "h101"], "--gpu h101")]
)
def test_bad_input(at: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str) -> None:
    assert cli.main(["fit", *arguments]) == 2
    assert words in capsys.readouterr().err


def made(root: Path, command: str) -> plan.Plan:
    (root / "models" / "m.yml").write_text(f"command: vllm serve {command}\n")
    return plan.make(root, {}, [], "m")


def test_a_hopeless_start(root: Path) -> None:
    (problem,) = guard.problems(made(root, "zai-org/GLM-4.7-Flash --max-model-len 131072"), named("24GB"))
    assert problem.place == "models/m.yml:1"
    assert "does not fit on 24 GB: the weights take 58.2 GiB" in problem.what
    assert "./runMe.sh fit m" in problem.cure
    assert "FIT_CHECK=false" in problem.cure


@pytest.mark.parametrize(
    ("command", "where"),
    [
        ("org/unknown --max-model-len 1000000", named("24GB")),  # nothing is known
        ("zai-org/GLM-4.7-Flash --max-model-len 131072", CPU),  # no GPU
        ("openai/gpt-oss-120b --tensor-parallel-size 2", H100),  # vLLM says so itself
        ("openai/gpt-oss-20b", Machine("?", 0)),  # a machine of which nothing is known
        ("zai-org/GLM-4.7-Flash --max-model-len 131072 --gpu-memory-utilization 0.83", H100),  # only nearly
    ],
)
def test_not_refused(root: Path, command: str, where: Machine) -> None:
    assert guard.problems(made(root, command), where) == []


def test_what_may_not_fit_is_a_note(root: Path) -> None:
    planned = made(root, "zai-org/GLM-4.7-Flash --max-model-len 131072 --gpu-memory-utilization 0.83")
    problems, (note,) = guard.look(planned, H100, {})
    assert (problems, note.startswith("m may not fit h100: one sequence of 131,072 tokens")) == ([], True)
    assert guard.look(made(root, "openai/gpt-oss-20b"), H100, {}) == ([], [])


def test_up_refuses(at: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    started: list[str] = []

    def runtime(layout: object, wanted: str, running: bool = False) -> object:
        started.append(wanted)
        raise ConfigError  # as far as this test goes

    monkeypatch.setattr(cli, "_runtime", runtime)
    assert cli.main(["up", "--model", "glm47-flash"]) == 2
    assert started == []
    assert "does not fit on 4090" in capsys.readouterr().err
    cli.main(["up", "--model", "glm47-flash", "--set", "FIT_CHECK=false"])
    assert len(started) == 1

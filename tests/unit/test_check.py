"""`./runMe.sh check` and what `up` refuses because of it; the real vLLM is asked in tests/e2e/test_check_mutants.py."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from stack import check, cli, plan
from stack.errors import ConfigError
from stack.fragment import Fragment

Make = Callable[..., Fragment]


def said(make_fragment: Make, flags: str, rest: str = "") -> list[str]:
    """Problems of a command with these flags, one a line of the fragment."""
    lines = "".join(f" \\\n    {flag}" for flag in flags.split("\n") if flag)
    return [str(one) for one in check.problems(make_fragment(f"command: |\n  vllm serve org/m{lines}\n{rest}"))]


@pytest.mark.parametrize(
    ("flags", "line", "words"),
    [
        ("--max-modl-len 8192", 3, "did you mean --max-model-len"),
        ("--max-model 8192", 3, "--max-model-len"),
        ("--enforce-eager\n--swap-space 4", 4, "--swap-space"),
        ("--enforce-eager\n\n--disable-log-requests", 4, "--disable-log-requests"),
        ("--task embed", 3, "--runner"),
        ("--tool-call-parser glm407 --enable-auto-tool-choice", 3, "glm47"),
        ("--reasoning-parser qwen", 3, "qwen3"),
        ("--load-format fastsafetensor", 3, "fastsafetensors"),
        ("--kv-cache-dtype fp9", 3, "fp8"),
        ("--attention-backend FLASHINFR", 3, "FLASHINFER"),
        ("--moe-backend tritn", 3, "triton"),
        ("--max-num-seqs many", 3, "expected a whole number"),
        ("--gpu-memory-utilization 1.5", 3, "--gpu-memory-utilization"),
        ("""--speculative-config '{"methd": "mtp"}'""", 3, "method"),
        ("""--speculative-config '{"method": "mtp"'""", 3, "--speculative-config"),
        ("--max-model-len", 3, "--max-model-len"),
        ("--enforce-eager true", 3, "true"),
        ("--dtype bfloat61", 3, "bfloat16"),
        ("--tool-call-parser glm47", 3, "--enable-auto-tool-choice"),
        ("--enable-auto-tool-choice", 3, "--tool-call-parser"),
    ],
)
def test_a_mistake_in_the_command_has_its_line(make_fragment: Make, flags: str, line: int, words: str) -> None:
    found = said(make_fragment, flags)
    assert found, flags
    assert f":{line}: " in found[0]
    assert words in "\n".join(found)


@pytest.mark.parametrize(
    "flags",
    [
        "--max-model-len 128K",
        "--max_model_len=8192",
        "--no-enable-prefix-caching",
        "-tp 2",
        "--compilation-config.mode 3",
        """--hf-overrides '{"max_position_embeddings": 65536}'""",
        """--speculative-config '{"method": "mtp", "num_speculative_tokens": 1}'""",
        "--enable-auto-tool-choice --tool-call-parser hermes",
        "--served-model-name a b c",
    ],
)
def test_what_vllm_takes_is_right(make_fragment: Make, flags: str) -> None:
    assert said(make_fragment, flags) == []


@pytest.mark.parametrize(
    ("rest", "words"),
    [
        ("env: {VLLM_USE_DEEP_GEM: '1'}\n", "VLLM_USE_DEEP_GEMM"),
        ("env: {VLLM_FLASHINFER_MOE_BACKEND: latency}\n", "--moe-backend"),
        ("env: {VLLM_USE_DEEP_GEMM: 'yes please'}\n", "VLLM_USE_DEEP_GEMM"),
        ("litellm: {min_p: 2}\n", "min_p"),
        ("litellm: {presence_penalty: 3}\n", "presence_penalty"),
    ],
)
def test_environment_and_parameters(make_fragment: Make, rest: str, words: str) -> None:
    found = said(make_fragment, "--enforce-eager", rest)
    assert len(found) == 1
    assert words in found[0]


def test_an_image_of_another_vllm_may_know_more(make_fragment: Make) -> None:
    text = "command: vllm serve org/m --brand-new-flag\nimage: vllm/vllm-openai:v0.99.0\n"
    (found,) = check.problems(make_fragment(text))
    assert (found.level, "v0.99.0" in found.cure) == ("warning", True)


def test_more_gpus_than_there_are(make_fragment: Make) -> None:
    fragment = make_fragment("command: vllm serve org/m --tensor-parallel-size 4\n")
    assert check.problems(fragment) == []
    assert check.problems(fragment, gpus=lambda: 4) == []
    (found,) = check.problems(fragment, gpus=lambda: 2)
    assert "2" in str(found)


def test_every_shipped_model_is_right_and_soon(capsys: pytest.CaptureFixture[str]) -> None:
    began = time.monotonic()
    assert cli.main(["check"]) == 0
    assert time.monotonic() - began < 10
    out = capsys.readouterr().out
    assert "0 errors, 0 warnings" in out, out


def test_all_problems_of_all_models_at_once(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("STACK_ROOT", str(root))
    (root / "models" / "a.yml").write_text("command: |\n  vllm serve org/m \\\n    --max-modl-len 1\nenv: {VLLM_X_Y: '1'}\n")
    (root / "models" / "b.yml").write_text("command: vllm serve org/m --load-format hff\nlitellm: {top_q: 1}\n")
    assert cli.main(["check", "a", "models/b.yml"]) == 2
    out = capsys.readouterr().out
    for place in ("models/a.yml:3:", "models/a.yml:4:", "models/b.yml:2:"):
        assert place in out, out
    assert "2 models checked" in out
    assert cli.main(["check", "a", "--json"]) == 2
    found = json.loads(capsys.readouterr().out)
    assert found["errors"] == 2
    assert [one["name"] for one in found["models"]] == ["a"]


def test_up_refuses_what_check_finds(root: Path) -> None:
    (root / "models" / "a.yml").write_text(
        "command: |\n  vllm serve org/m \\\n    --max-modl-len 1\nlitellm: {temperature: 9}\n"
    )
    with pytest.raises(ConfigError) as caught:
        plan.make(root, {}, [], "a")
    assert "TEMPERATURE" in str(caught.value), "what is found elsewhere is named in the same breath"
    assert "models/a.yml:3: command: --max-modl-len" in str(caught.value)
    (root / "models" / "a.yml").write_text("command: |\n  vllm serve org/m \\\n    --max-modl-len 1\n")
    with pytest.raises(ConfigError, match=r"models/a\.yml:3: command: --max-modl-len"):
        plan.make(root, {}, [], "a")
    assert plan.make(root, {}, [], "a", accepted=True).engine_argv


def test_the_callers_environment_is_only_doubted(root: Path) -> None:
    made = plan.make(root, {"VLLM_NO_SUCH_THING": "1"}, [], "minilm")
    assert any("VLLM_NO_SUCH_THING" in note for note in made.notes)


def test_what_the_schema_refuses_does_not_hide_the_rest(root: Path) -> None:
    (root / "models" / "a.yml").write_text(
        "command: |\n  vllm serve org/m \\\n    --max-modl-len 1\n"
        "env:\n  VLLM_USE_V9: '1'\n  B: true\nlitellm:\n  tempr: 1\n  top_p: 9\n"
    )
    with pytest.raises(ConfigError) as caught:
        plan.make(root, {}, [], "a")
    named = [problem.what.split(":")[0] for problem in caught.value.problems]
    assert named == ["command", "env.VLLM_USE_V9", "env.B", "litellm.tempr", "litellm.top_p"]


def test_a_command_that_cannot_be_read_hides_nothing_else(root: Path) -> None:
    (root / "models" / "a.yml").write_text("command: vllm serve 'org/m\nlitellm: {tempr: 1}\n")
    with pytest.raises(ConfigError) as caught:
        plan.make(root, {}, [], "a")
    assert len(caught.value.problems) == 2


def test_a_recorded_models_own_context_is_known(root: Path) -> None:
    long = "command: vllm serve HuggingFaceTB/SmolLM2-135M-Instruct --max-model-len 65536"
    (root / "models" / "a.yml").write_text(long + "\n")
    with pytest.raises(ConfigError, match="65536 is more than the model's own context of 8192"):
        plan.make(root, {}, [], "a")
    stretched = long.replace("command: ", "command: |\n  ") + " --hf-overrides '{\"max_position_embeddings\": 65536}'\n"
    (root / "models" / "a.yml").write_text(stretched)
    assert any("more than the model's own" in note for note in plan.make(root, {}, [], "a").notes)

"""From sources to everything that is written or run."""

from __future__ import annotations

from pathlib import Path

import pytest

from stack import plan, sources
from stack.errors import ConfigError
from stack.sources import Entry, Sources


def _layers(**given: str) -> Sources:
    def layer(name: str) -> dict[str, Entry]:
        return {"MODEL": Entry(given[name], name)} if name in given else {}

    return Sources(layer("overrides"), layer("environment"), (layer("local"), layer("shared")))


@pytest.mark.parametrize(
    ("layers", "model", "name"),
    [
        (_layers(overrides="a", environment="b", local="c", shared="d"), "z", "z"),
        (_layers(overrides="a", environment="b", local="c", shared="d"), "", "a"),
        (_layers(environment="b", local="c", shared="d"), "", "b"),
        (_layers(local="c", shared="d"), "", "c"),
        (_layers(shared="d"), "", "d"),
        (_layers(), "", "glm47-flash"),
    ],
    ids=["argument", "set", "environment", "local", "shared", "default"],
)
def test_select(layers: Sources, model: str, name: str) -> None:
    assert plan.select(layers, model) == name


def test_make_builds_command_and_environment(root: Path) -> None:
    (root / "models" / "m.yml").write_text(
        "command: vllm serve org/m --max-model-len 4096 --port 1\nrevision: abc\nenv: {NCCL_IB_DISABLE: 0}\n"
    )
    made = plan.make(root, {"MODEL": "m", "HF_HOME": "/cache", "HF_TOKEN": "hf_secret"}, ["LITELLM_TOP_K=7"])
    assert made.engine_argv == (
        *("vllm", "serve", "org/m", "--max-model-len", "4096", "--host", "127.0.0.1", "--port", "8000"),
        *("--served-model-name", "m", "vllm_agent", "--revision", "abc", "--shutdown-timeout", "20"),
        "--override-generation-config",
        '{"temperature":0.7,"top_p":0.9,"top_k":7,"repetition_penalty":1.1}',
    )
    assert made.engine_env == {"NCCL_ENABLE_SO_RCLO": "1", "NCCL_IB_DISABLE": "0", "HF_HOME": "/cache"}
    assert made.notes == ("models/m.yml: --port of the fragment is not used: the engine's port is ENGINE_PORT",)
    assert made.served.name == "m"


def test_local_weights_replace_the_repository(root: Path) -> None:
    made = plan.make(root, {"STACK_MODEL_PATH": "/weights/m"}, [], "smollm2-135m")
    assert made.engine_argv[:3] == ("vllm", "serve", "/weights/m")


def test_home_is_expanded_once_here(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")
    assert plan.make(root, {}, [], "minilm").engine_env["HF_HOME"] == "/home/somebody/.cache/huggingface"


def test_unknown_context_is_told(root: Path) -> None:
    (root / "models" / "m.yml").write_text("command: vllm serve m\n")
    assert plan.make(root, {}, [], "m").notes == (
        "models/m.yml: the context length is not known, so LITELLM_MAX_TOKENS is not sent: "
        "give --max-model-len in the command, or context: in the fragment",
    )


@pytest.mark.parametrize(("limit", "told"), [("16", False), ("17", True)])
def test_a_limit_above_what_the_engine_does_at_once_is_told(root: Path, limit: str, told: bool) -> None:
    made = plan.make(root, {"MAX_PARALLEL_REQUESTS": limit}, [], "smollm2-135m")
    expected = (
        "models/smollm2-135m.yml: the engine works on 16 requests at once (--max-num-seqs), and the local key may have 17 "
        "(MAX_PARALLEL_REQUESTS): the others wait in the engine"
    )
    assert made.notes == ((expected,) if told else ())


@pytest.mark.parametrize(
    ("overrides", "engine", "gateway"),
    [
        pytest.param([], False, False, id="nothing"),
        pytest.param(["LITELLM_TOP_K=7"], True, True, id="sampling"),
        pytest.param(["LITELLM_REQUEST_TIMEOUT=7"], False, True, id="gateway-only"),
        pytest.param(["env.X=1"], True, False, id="engine-environment"),
        pytest.param(["ENGINE_LOG_REQUESTS=true"], True, False, id="engine-flag"),
        pytest.param(["ENGINE_START_TIMEOUT=7"], False, False, id="neither"),
    ],
)
def test_digests_say_what_has_to_start_anew(root: Path, overrides: list[str], engine: bool, gateway: bool) -> None:
    before, after = plan.make(root, {}, [], "minilm"), plan.make(root, {}, overrides, "minilm")
    before, after = (before, after) if overrides != ["LITELLM_TOP_K=7"] else _chat(root, overrides)
    assert (before.engine_digest != after.engine_digest, before.gateway_digest != after.gateway_digest) == (engine, gateway)


def _chat(root: Path, overrides: list[str]) -> tuple[plan.Plan, plan.Plan]:
    return plan.make(root, {}, [], "smollm2-135m"), plan.make(root, {}, overrides, "smollm2-135m")


def test_problems_of_all_layers_at_once(root: Path) -> None:
    (root / "models" / "m.yml").write_text("command: vllm serve m\ntypo: 1\n")
    (root / "vars.local.env").write_text("LITELLM_TOP_P=7\nNOT_THERE_AT_ALL=1\n")
    (root / plan.TEMPLATE).unlink()
    with pytest.raises(ConfigError) as caught:
        plan.make(root, {"ENGINE_PORT": "x"}, ["MAX_PARALLEL_REQUESTS=0"], "m")
    assert [problem.place for problem in caught.value.problems] == [
        "models/m.yml:2",
        plan.TEMPLATE,
        "vars.local.env:2",
        "vars.local.env:1",
        "--set",
        "environment",
    ]


def test_broken_vars_do_not_hide_the_models_problems(root: Path) -> None:
    (root / "models" / "m.yml").write_text("command: vllm serve m\ntypo: 1\n")
    (root / "vars.env").write_text("what is this\n")
    with pytest.raises(ConfigError) as caught:
        plan.make(root, {"MODEL": "m"}, [])
    assert [problem.place for problem in caught.value.problems] == ["vars.env:1", "models/m.yml:2"]


def test_template_that_renders_to_no_yaml(root: Path) -> None:
    (root / plan.TEMPLATE).write_text("a: [1\n")
    with pytest.raises(ConfigError, match="does not render to YAML"):
        plan.make(root, {}, [], "minilm")


def test_reads_only_what_it_is_given(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LITELLM_TOP_P", "0.1")
    made = plan.make(root, {}, [], "minilm")
    assert made.resolved["LITELLM_TOP_P"] == 0.9
    assert sources.read(root, {}, []).environment == {}

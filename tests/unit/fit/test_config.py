"""Shapes from config.json: of local files, and what is refused because it would come out wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from stack.fit import config, facts
from stack.fit.shape import FULL, SLIDING, STATE, UnknownShapeError

PLAIN: dict[str, Any] = {
    "architectures": ["SomeForCausalLM"],
    "num_hidden_layers": 4,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "hidden_size": 512,
    "max_position_embeddings": 4096,
}


def kinds(extra: dict[str, Any]) -> list[tuple[str, int, int, int]]:
    made = config.read({**PLAIN, **extra})
    return [(layer.kind, layer.count, layer.heads, layer.size) for layer in made.layers]


def test_kinds() -> None:
    assert kinds({}) == [(FULL, 4, 2, 128)]
    assert kinds({"sliding_window": 128}) == [(SLIDING, 4, 2, 128)]
    assert kinds({"sliding_window": 128, "use_sliding_window": False}) == [(FULL, 4, 2, 128)]
    assert kinds({"sliding_window": 128, "sliding_window_pattern": 2}) == [(FULL, 2, 2, 128), (SLIDING, 2, 2, 128)]
    listed = {"sliding_window": 128, "layer_types": ["sliding_attention", "full_attention"] * 2}
    assert kinds(listed) == [(FULL, 2, 2, 128), (SLIDING, 2, 2, 128)]
    assert kinds({"architectures": ["BertModel"]}) == []
    mamba = {"mamba_num_heads": 4, "mamba_head_dim": 8, "ssm_state_size": 16, "n_groups": 1, "conv_kernel": 4}
    assert kinds({"hybrid_override_pattern": "ME*-", **mamba}) == [(FULL, 1, 2, 128), (STATE, 1, 1, 0)]
    assert kinds({"num_kv_shared_layers": 1}) == [(FULL, 3, 2, 128)]


def test_the_language_model_of_one_that_sees() -> None:
    made = config.read({"architectures": ["SeesForConditionalGeneration"], "text_config": PLAIN, "vision_config": {}})
    assert (made.architecture, made.context, made.layers[0].count) == ("SeesForConditionalGeneration", 4096, 4)


@pytest.mark.parametrize(
    ("quantization", "expected"),
    [
        ({"kv_cache_scheme": {"num_bits": 8, "type": "float"}}, "fp8"),
        ({"kv_cache_quant_algo": "FP8"}, "fp8"),
        ({"kv_cache_quant_algo": None}, ""),
    ],
)
def test_a_checkpoint_that_wants_its_cache_quantised(quantization: dict[str, Any], expected: str) -> None:
    assert config.read({**PLAIN, "quantization_config": quantization}).cache_dtype == expected


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        ({"index_topk": 2048}, "keeps an index"),
        ({"layer_types": ["conv"] * 4}, "layers of type conv"),
        ({"layer_types": ["linear_attention"] * 4}, "kind of linear attention"),
        ({"num_attention_heads": None}, "lacks"),
    ],
)
def test_what_would_come_out_wrong_is_not_known(extra: dict[str, Any], words: str) -> None:
    with pytest.raises(UnknownShapeError) as caught:
        config.read({**PLAIN, **extra})
    assert words in str(caught.value)


def snapshot(hub: Path, repository: str, index: bool = True) -> Path:
    folder = hub / f"models--{repository.replace('/', '--')}" / "snapshots" / "0123"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(PLAIN))
    if index:
        (folder / "model.safetensors.index.json").write_text('{"metadata": {"total_size": 1000}, "weight_map": {}}')
    return folder


def test_files_of_the_hub(tmp_path: Path) -> None:
    folder = snapshot(tmp_path, "org/m")
    found = facts.find("org/m", tmp_path)
    assert (found.weights, found.context, found.origin) == (1000, 4096, str(folder))
    assert not facts.is_cached("org/m", tmp_path)
    assert facts.find(str(folder), tmp_path / "nowhere").weights == 1000


def test_weights_without_an_index(tmp_path: Path) -> None:
    folder = snapshot(tmp_path, "org/m", index=False)
    with pytest.raises(facts.UnknownModelError, match="size of its weights"):
        facts.find("org/m", tmp_path)
    (folder / "model.safetensors").write_bytes(b"x" * 77)
    assert facts.find("org/m", tmp_path).weights == 77
    assert facts.is_cached("org/m", tmp_path)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    folder = snapshot(tmp_path, "org/m")
    (folder / "config.json").write_text("[broken")
    with pytest.raises(facts.UnknownModelError, match="cannot be read"):
        facts.find("org/m", tmp_path)


def test_nothing_known(tmp_path: Path) -> None:
    with pytest.raises(facts.UnknownModelError, match="not recorded"):
        facts.find("org/nothing", tmp_path)
    assert facts.of("org/nothing") is None

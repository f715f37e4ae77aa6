"""Run in the engine's environment: what vLLM's own code makes of a model's layers.

Reads a JSON list of cases on standard input and prints one JSON list: for each case the bytes of a block of the cache's
pool, the blocks that one request takes, and how many requests fit. Layers are given by number and kind; sizes, padding,
grouping and arithmetic are vLLM's. No model is built and no weights are read.
"""

from __future__ import annotations

import json
import sys
from types import SimpleNamespace
from typing import Any

import torch
from vllm.model_executor.layers.mamba.mamba_utils import MambaStateShapeCalculator
from vllm.model_executor.models import ModelRegistry
from vllm.platforms.interface import Platform
from vllm.v1.attention.backend import MultipleOf
from vllm.v1.core import kv_cache_utils
from vllm.v1.kv_cache_interface import FullAttentionSpec, MambaSpec, MLAAttentionSpec, SlidingWindowSpec
from vllm.v1.kv_cache_layout import KVCacheLayout

DTYPES = {"auto": torch.bfloat16, "fp8": torch.float8_e4m3fn}


class Backend:
    """An attention backend of a GPU, as far as the layout asks: blocks of any multiple of 16 tokens, nothing packed."""

    @staticmethod
    def get_supported_kernel_block_sizes() -> list[Any]:
        """See vllm.v1.attention.backend.AttentionBackend."""
        return [MultipleOf(16)]

    @staticmethod
    def customize_spec(spec: Any) -> Any:
        """See vllm.v1.attention.backend.AttentionBackend."""
        return spec


def settings(case: dict[str, Any], head: dict[str, int]) -> Any:
    """The parts of a VllmConfig that the layout reads."""
    cache = SimpleNamespace(
        block_size=case["block"],
        cache_dtype=case["cache_dtype"],
        kv_cache_dtype_skip_layers=[],
        mamba_cache_mode="align" if case["prefix_caching"] else "none",
        mamba_block_size=None,
        mamba_page_size_padded=None,
        num_gpu_blocks_override=None,
        prefix_cache_retention_interval=0,
        get_resolved_kv_cache_layout=lambda: KVCacheLayout.LBNHC,
    )
    model = SimpleNamespace(
        max_model_len=case["length"],
        dtype=torch.bfloat16,
        use_mla=False,
        architecture="case",
        get_num_kv_heads=lambda parallel: head["heads"],
        get_head_size=lambda: head["size"],
    )
    return SimpleNamespace(
        cache_config=cache,
        model_config=model,
        parallel_config=SimpleNamespace(decode_context_parallel_size=1, tensor_parallel_size=case["gpus"]),
        scheduler_config=SimpleNamespace(disable_hybrid_kv_cache_manager=not case["hybrid"]),
        attention_config=SimpleNamespace(hisparse_config=None),
        compilation_config=SimpleNamespace(),
        speculative_config=None,
        max_in_flight_tokens=case["in_flight"],
        num_speculative_tokens=case["speculative"],
    )


def state_shapes(config: dict[str, Any], gpus: int, speculative: int) -> tuple[Any, tuple[torch.dtype, ...]]:
    """Shapes and types of a linear attention or Mamba layer's states."""
    if "linear_num_value_heads" in config:
        shapes = MambaStateShapeCalculator.gated_delta_net_state_shape(
            gpus,
            config["linear_num_key_heads"],
            config["linear_num_value_heads"],
            config["linear_key_head_dim"],
            config["linear_value_head_dim"],
            config["linear_conv_kernel_dim"],
            speculative,
        )
        dtype = torch.float32 if config.get("mamba_ssm_dtype") == "float32" else torch.bfloat16
    else:
        shapes = MambaStateShapeCalculator.mamba2_state_shape(
            gpus,
            intermediate_size=config["mamba_num_heads"] * config["mamba_head_dim"],
            n_groups=config["n_groups"],
            num_heads=config["mamba_num_heads"],
            head_dim=config["mamba_head_dim"],
            state_size=config["ssm_state_size"],
            conv_kernel=config["conv_kernel"],
            num_spec=speculative,
        )
        dtype = torch.float32
    return shapes, (torch.bfloat16, dtype)


def answer(case: dict[str, Any]) -> dict[str, float]:
    """What vLLM makes of one case."""
    config, gpus = case["config"], case["gpus"]
    dtype = DTYPES[case["cache_dtype"]]
    full = next((layer for layer in case["layers"] if layer["kind"] == "full"), {"heads": 1, "size": 1})
    vllm = settings(case, {"heads": max(1, full["heads"] // gpus), "size": full["size"] // 2})
    states = next((layer for layer in case["layers"] if layer["kind"] == "state"), None)
    if states:
        shapes, dtypes = state_shapes(config, gpus, case["speculative"])
        model = SimpleNamespace(
            get_mamba_state_shape_from_config=lambda _: shapes, get_mamba_state_dtype_from_config=lambda _: dtypes
        )
        ModelRegistry.resolve_model_cls = lambda *_, **__: (model, "case")
        AlignedPlatform._align_hybrid_block_size(vllm, Backend)
    block = vllm.cache_config.block_size
    specs: dict[str, Any] = {}
    for number, layer in enumerate(case["layers"]):
        heads = max(1, layer["heads"] // gpus)
        common = {"block_size": block, "num_kv_heads": heads, "dtype": dtype}
        for index in range(layer["count"]):
            name = f"{number}.{index}"
            if layer["kind"] == "latent":
                specs[name] = MLAAttentionSpec(
                    block_size=block, num_kv_heads=1, head_size=layer["size"], dtype=dtype, cache_dtype_str="auto"
                )
            elif layer["kind"] == "sliding":
                specs[name] = SlidingWindowSpec(**common, head_size=layer["size"] // 2, sliding_window=layer["window"])
            elif layer["kind"] == "full":
                specs[name] = FullAttentionSpec(**common, head_size=layer["size"] // 2)
            else:
                specs[name] = MambaSpec(
                    shapes=tuple(shapes),
                    dtypes=dtypes,
                    block_size=block,
                    page_size_padded=vllm.cache_config.mamba_page_size_padded,
                    mamba_cache_mode=vllm.cache_config.mamba_cache_mode,
                    num_speculative_blocks=case["speculative"],
                )
    groups = kv_cache_utils.get_kv_cache_groups(vllm, specs)
    made = kv_cache_utils.get_kv_cache_config_from_groups(vllm, groups, case["memory"])
    tokens, concurrency = kv_cache_utils.get_kv_cache_capacity(vllm, made)
    return {
        "block": kv_cache_utils._pool_bytes_per_block(vllm, groups),
        "sequence": kv_cache_utils._max_memory_usage_bytes_from_groups(vllm, groups),
        "tokens": tokens,
        "concurrency": concurrency,
        "groups": len(groups),
    }


class AlignedPlatform(Platform):  # type: ignore[misc]
    """A platform whose model has one attention backend."""

    @classmethod
    def _find_non_ssm_backends(cls, vllm_config: Any) -> list[Any]:
        return [Backend]


if __name__ == "__main__":
    json.dump([answer(case) for case in json.load(sys.stdin)], sys.stdout)

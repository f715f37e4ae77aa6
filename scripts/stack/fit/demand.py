"""What a `vllm serve` command asks for, as far as memory goes. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from stack import command
from stack.fit.config import DTYPES
from stack.fit.machine import GIB, Machine
from stack.values import parse_vllm_size


@dataclass(frozen=True)
class Demand:
    """The flags that count, with vLLM's own defaults (vLLM 0.32.0: config/cache.py; arg_utils.py: get_batch_defaults).

    Attributes:
        context: --max-model-len in tokens; 0: the model's own; -1: as much as fits.
        sequences: --max-num-seqs.
        batched: --max-num-batched-tokens.
        utilization: --gpu-memory-utilization.
        cache_memory: bytes that the cache is to have, if the command or VLLM_CPU_KVCACHE_SPACE says so; else 0.
        dtype: bytes of an element by --dtype; 0: the model's own.
        cache_dtype: --kv-cache-dtype.
        tensor, pipeline, data: the three parallel sizes.
        experts: --enable-expert-parallel.
        eager: --enforce-eager.
        speculative: tokens guessed ahead; draft: by the model's own layers; drafter: or by this other model.
        block: --block-size; 0: vLLM's choice.
        prefix_caching, hybrid, state_dtype: as in cache.Asked.
        pooling: the model embeds and does not generate.
    """

    context: int = 0
    sequences: int = 256
    batched: int = 2048
    utilization: float = 0.92
    cache_memory: int = 0
    dtype: int = 0
    cache_dtype: str = "auto"
    tensor: int = 1
    pipeline: int = 1
    data: int = 1
    experts: bool = False
    eager: bool = False
    speculative: int = 0
    draft: bool = False
    drafter: str = ""
    block: int = 0
    prefix_caching: bool = True
    hybrid: bool = True
    state_dtype: int = 0
    pooling: bool = False

    @property
    def gpus(self) -> int:
        """GPUs the command uses."""
        return self.tensor * self.pipeline * self.data


def read(argv: list[str], env: Mapping[str, str], machine: Machine) -> Demand:
    """What the command means on a machine: some of vLLM's defaults follow the GPU. What cannot be read counts as absent."""
    flags = _Flags(argv)
    large = machine.memory >= 70 * GIB and "a100" not in machine.name.lower() and not machine.cpu
    huge = machine.memory >= 160 * GIB and large
    speculation = _json(flags.text("--speculative-config"))
    method = str(speculation.get("method", ""))
    cache_memory = flags.size("--kv-cache-memory-bytes") or flags.size("--kv-cache-memory")
    space = env.get("VLLM_CPU_KVCACHE_SPACE", "")
    if machine.cpu and space.isdecimal():
        cache_memory = int(space) * GIB
    own = method.endswith("mtp") or (method in ("", "draft_model") and not speculation.get("model"))
    tokens = _whole(speculation.get("num_speculative_tokens")) if speculation else 0
    length = flags.text("--max-model-len")
    return Demand(
        context=-1 if length in ("auto", "-1") else flags.size("--max-model-len"),
        sequences=flags.whole("--max-num-seqs") or (128 if machine.cpu else 1024 if large else 256),
        batched=flags.size("--max-num-batched-tokens") or (16384 if huge else 8192 if large else 2048),
        utilization=flags.number("--gpu-memory-utilization") or 0.92,
        cache_memory=cache_memory,
        dtype=DTYPES.get(flags.text("--dtype"), 0),
        cache_dtype=flags.text("--kv-cache-dtype") or "auto",
        tensor=flags.whole("--tensor-parallel-size", "-tp") or 1,
        pipeline=flags.whole("--pipeline-parallel-size", "-pp") or 1,
        data=flags.whole("--data-parallel-size", "-dp") or 1,
        experts=flags.on("--enable-expert-parallel"),
        eager=flags.on("--enforce-eager"),
        speculative=tokens,
        draft=bool(tokens) and own,
        drafter="" if own else str(speculation.get("model", "")),
        block=flags.whole("--block-size"),
        prefix_caching=not flags.on("--no-enable-prefix-caching"),
        hybrid=not flags.on("--disable-hybrid-kv-cache-manager"),
        state_dtype=DTYPES.get(flags.text("--mamba-ssm-cache-dtype"), 0),
        pooling=flags.text("--runner") == "pooling",
    )


class _Flags:
    def __init__(self, argv: list[str]) -> None:
        self._argv = argv
        self._names = {word.partition("=")[0].replace("_", "-") for word in argv if word.startswith("--")}

    def on(self, flag: str) -> bool:
        return flag in self._names

    def text(self, flag: str, short: str = "") -> str:
        given = command.option(self._argv, flag)[-1:]
        if not given and short in self._argv[:-1]:
            given = [self._argv[self._argv.index(short) + 1]]
        return given[0] if given else ""

    def whole(self, flag: str, short: str = "") -> int:
        return _whole(self.text(flag, short))

    def number(self, flag: str) -> float:
        try:
            return float(self.text(flag))
        except ValueError:
            return 0.0

    def size(self, flag: str) -> int:
        try:
            return parse_vllm_size(self.text(flag)) or 0
        except ValueError:
            return 0


def _whole(value: object) -> int:
    return int(str(value)) if str(value).isdecimal() else 0


def _json(text: str) -> dict[str, Any]:
    try:
        parsed = json.loads(text)
    except ValueError:
        return {}
    return parsed if isinstance(parsed, dict) else {}

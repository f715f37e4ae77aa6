"""Our calculation of the KV cache against vLLM's own code, for each kind of model there is. No weights, no GPU."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from stack.fit import cache, facts
from stack.fit.cache import Asked
from stack.fit.shape import FULL, LATENT, SLIDING, STATE
from stack.runtime import install
from stack.runtime.layout import Layout
from stack.runtime.report import Silent

pytestmark = pytest.mark.only("native", reason="asks the native environment, not a stack")
LAYOUT = Layout.from_environ({"ENVS_DIR": os.environ.get("ENVS_DIR", "")})
WORDS = {FULL: "full", SLIDING: "sliding", LATENT: "latent", STATE: "state"}
MEMORY = 20 << 30
# Plain, latent attention, sliding windows (one size of head, two sizes, with a draft), and states (of two kinds, with and
# without prefix caching, drafts, fp8, two GPUs).
CASES = [
    ("Qwen/Qwen3-Coder-30B-A3B-Instruct", Asked(), 131072),
    ("Qwen/Qwen3-Coder-30B-A3B-Instruct", Asked("fp8", gpus=8), 131072),
    ("HuggingFaceTB/SmolLM2-135M-Instruct", Asked(block=128), 8192),
    ("zai-org/GLM-4.7-Flash", Asked(block=64), 131072),
    ("zai-org/GLM-4.7-Flash", Asked(draft=True, speculative=1, gpus=2), 202752),
    ("openai/gpt-oss-20b", Asked(in_flight=2 * 2048), 131072),
    ("openai/gpt-oss-120b", Asked(in_flight=2 * 8192, gpus=2), 100000),
    ("openai/gpt-oss-120b", Asked(hybrid=False), 131072),
    ("google/gemma-4-26B-A4B-it", Asked(in_flight=2 * 8192), 131072),
    ("google/gemma-4-26B-A4B-it", Asked("fp8", gpus=2), 262144),
    ("stepfun-ai/Step-3.5-Flash-FP8", Asked(draft=True, speculative=1), 131072),
    ("Qwen/Qwen3-Coder-Next-FP8", Asked(), 262144),
    ("Qwen/Qwen3-Coder-Next-FP8", Asked(prefix_caching=False), 65536),
    ("Qwen/Qwen3.8-27B", Asked("fp8", gpus=2), 131072),
    ("Qwen/Qwen3.8-27B", Asked("fp8", draft=True, speculative=3), 262144),
    ("nvidia/Qwen3.6-35B-A3B-NVFP4", Asked(block=128), 131072),
    ("nvidia/NVIDIA-Nemotron-3-Super-120B-A12B-NVFP4", Asked("fp8"), 262144),
    ("nvidia/NVIDIA-Nemotron-3-Super-120B-A12B-NVFP4", Asked(draft=True, speculative=3, gpus=2), 262144),
]


@pytest.fixture(scope="module")
def theirs() -> list[dict[str, Any]]:
    engine = install.ensure(LAYOUT, "engine-cpu", Silent())
    done = subprocess.run(
        [str(engine / "bin" / "python"), str(Path(__file__).with_name("fit_layout.py"))],
        input=json.dumps([question(*case) for case in CASES]),
        capture_output=True,
        text=True,
        timeout=300,
        env={"PATH": os.environ["PATH"], "HOME": str(Path.home()), "VLLM_LOGGING_LEVEL": "ERROR", "PYTHONSAFEPATH": "1"},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return list(json.loads(done.stdout.splitlines()[-1]))


def question(repository: str, asked: Asked, length: int) -> dict[str, Any]:
    known = facts.of(repository)
    assert known is not None
    layers = [*known.shape.layers, *(known.shape.draft if asked.draft else ())]
    return {
        "config": facts.recorded()[repository]["config"],
        "layers": [
            {
                "kind": WORDS[layer.kind],
                "count": layer.count,
                "heads": layer.heads,
                "size": layer.size,
                "window": layer.window,
            }
            for layer in layers
        ],
        "memory": MEMORY,
        "length": length,
        **{name: getattr(asked, name) for name in ("cache_dtype", "block", "gpus", "speculative", "in_flight")},
        **{name: getattr(asked, name) for name in ("prefix_caching", "hybrid")},
    }


@pytest.mark.parametrize(
    "number", range(len(CASES)), ids=[f"{name.split('/')[1]}-{i}" for i, (name, *_) in enumerate(CASES)]
)
def test_bytes_are_those_of_vllm(theirs: list[dict[str, Any]], number: int) -> None:
    repository, asked, length = CASES[number]
    known = facts.of(repository)
    assert known is not None
    pool = cache.pool(known.shape, asked)
    ours = {
        "block": pool.block,
        "sequence": pool.sequence(length),
        "tokens": int(pool.concurrency(MEMORY, length) * length),
        "concurrency": pytest.approx(pool.concurrency(MEMORY, length)),
        "groups": len(pool.groups),
    }
    assert ours == theirs[number]

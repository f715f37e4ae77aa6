"""The answer, its parts, and the flags that would change it."""

from __future__ import annotations

import pytest

from stack.fit import answer, demand, facts
from stack.fit.answer import Answer
from stack.fit.machine import GIB, Machine, named


def judge(repository: str, flags: str, gpu: str | Machine, env: dict[str, str] | None = None) -> Answer:
    where = named(gpu) if isinstance(gpu, str) else gpu
    known = facts.of(repository)
    assert known is not None
    return answer.judge(known, demand.read(["vllm", "serve", repository, *flags.split()], env or {}, where), where)


def test_parts_add_up() -> None:
    made = judge("zai-org/GLM-4.7-Flash", "--max-model-len 131072 --gpu-memory-utilization 0.85", "gb10")
    sizes = {part.name: part.size for part in made.parts}
    assert sizes["weights"] == 62448824484
    # 47 layers, 512 + 64 elements of 2 bytes, and nothing else for a token
    assert sizes["KV cache: latent attention (MLA)"] == made.needed == 131072 * 47 * 576 * 2
    rest = sum(size for name, size in sizes.items() if not name.startswith("KV cache"))
    assert made.cache == made.budget - rest
    assert made.budget == int(0.85 * 121.69 * GIB) or abs(made.budget - 0.85 * 121.69 * GIB) < 2
    assert (made.fits, made.hopeless, made.changes, made.longest) == (True, False, (), 202752)


@pytest.mark.parametrize(("dtype", "size"), [("auto", 2), ("bfloat16", 2), ("half", 2), ("float", 4), ("float32", 4)])
def test_a_dtype_of_the_commands_own(dtype: str, size: int) -> None:
    repository = "HuggingFaceTB/SmolLM2-135M-Instruct"
    made = judge(repository, f"--dtype {dtype} --max-model-len 8192", "24GB")
    assert {part.name: part.size for part in made.parts}["weights"] == 269060552 // 2 * size
    assert made.needed == 8192 * 30 * 3 * 64 * 2 * size  # layers, heads, their size, keys and values


def test_weights_too_heavy() -> None:
    made = judge("zai-org/GLM-4.7-Flash", "", "24GB")
    assert (made.fits, made.hopeless) == (False, True)
    assert made.why == "the weights take 58.2 GiB, and the engine may have 21.6 GiB"


def test_the_number_of_gpus_divides_the_heads() -> None:
    (change,) = judge("zai-org/GLM-4.7-Flash", "--max-model-len 32768", "24GB").changes
    assert change == "--tensor-parallel-size 4 on 4 such GPUs"  # 20 heads: not 8


def test_context_too_long() -> None:
    made = judge("Qwen/Qwen3-Coder-30B-A3B-Instruct-FP8", "--max-model-len 262144", "48GB")
    assert (made.fits, made.hopeless) == (False, True)
    assert "one sequence of 262,144 tokens takes 24.0 GiB of KV cache" in made.why
    assert 100_000 < made.longest < 200_000
    length = made.longest // 1024 * 1024
    assert f"--max-model-len {length} (now 262144)" in made.changes
    assert "--kv-cache-dtype fp8" in made.changes
    assert judge("Qwen/Qwen3-Coder-30B-A3B-Instruct-FP8", f"--max-model-len {length}", "48GB").fits
    assert judge("Qwen/Qwen3-Coder-30B-A3B-Instruct-FP8", "--max-model-len 262144 --kv-cache-dtype fp8", "48GB").fits


def test_a_little_too_long_is_not_hopeless() -> None:
    flags = "--gpu-memory-utilization 0.83 --max-model-len 131072"
    made = judge("zai-org/GLM-4.7-Flash", flags, "h100")
    assert (made.fits, made.hopeless) == (False, False)
    assert made.changes[0] == "--gpu-memory-utilization 0.95 (now 0.83)"


def test_every_change_that_is_one_flag_works() -> None:
    flags = "--gpu-memory-utilization 0.83 --max-model-len 131072"
    for change in judge("zai-org/GLM-4.7-Flash", flags, "h100").changes:
        flag = change.partition(" (now")[0].partition(" on ")[0]
        where = "2xh100" if "tensor" in flag else "h100"
        assert judge("zai-org/GLM-4.7-Flash", f"{flags} {flag}", where).fits, change


def test_fewer_gpus_than_the_command_uses() -> None:
    made = judge("openai/gpt-oss-120b", "--tensor-parallel-size 2", "h100")
    assert (made.fits, made.hopeless) == (False, False)
    assert made.why == "the command uses 2 GPUs, and there is 1"
    assert judge("openai/gpt-oss-120b", "--tensor-parallel-size 2", "2xh100").fits


def test_as_much_as_fits() -> None:
    made = judge("Qwen/Qwen3-Coder-30B-A3B-Instruct-FP8", "--max-model-len -1", "48GB")
    assert made.fits
    assert made.context == made.longest
    assert made.concurrency >= 1


def test_a_gb10_needs_room_for_the_system() -> None:
    notes = judge("openai/gpt-oss-20b", "--gpu-memory-utilization 0.98", "gb10").notes
    assert any("--gpu-memory-utilization 0.95 or less" in note for note in notes)
    assert not any("or less" in note for note in judge("openai/gpt-oss-20b", "--gpu-memory-utilization 0.85", "gb10").notes)


def test_a_cpu_gives_what_it_is_told() -> None:
    cpu = Machine("cpu", 16 * GIB, shared=True, cpu=True)
    env = {"VLLM_CPU_KVCACHE_SPACE": "2"}
    made = judge("HuggingFaceTB/SmolLM2-135M-Instruct", "--max-model-len 8192", cpu, env)
    assert (made.fits, made.cache) == (True, 2 * GIB)
    # 30 layers x 3 heads x 128 elements x 2 bytes
    assert made.needed == 8192 * 30 * 3 * 128 * 2
    full = judge("HuggingFaceTB/SmolLM2-135M-Instruct", "", cpu, {"VLLM_CPU_KVCACHE_SPACE": "15"})
    assert (full.fits, full.why[:38]) == (False, "VLLM_CPU_KVCACHE_SPACE asks for 15.0 G")
    assert full.changes[-1] == "a smaller VLLM_CPU_KVCACHE_SPACE"


def test_an_encoder_keeps_no_cache() -> None:
    made = judge("sentence-transformers/all-MiniLM-L6-v2", "--runner pooling --max-model-len 256", "24GB")
    assert (made.fits, made.needed, made.cache > 0) == (True, 0, True)


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ("", (1024, 8192, 0.92, 1, 0, False)),
        ("--max_num_seqs=4 --max-num-batched-tokens 4k -tp 2", (4, 4000, 0.92, 2, 0, False)),
        ('--speculative-config {"method":"mtp","num_speculative_tokens":3}', (1024, 8192, 0.92, 1, 3, True)),
        (
            '--speculative-config {"method":"eagle3","model":"a/b","num_speculative_tokens":3}',
            (1024, 8192, 0.92, 1, 3, False),
        ),
        ("--max-num-seqs nonsense --gpu-memory-utilization x", (1024, 8192, 0.92, 1, 0, False)),
    ],
)
def test_flags(flags: str, expected: tuple[object, ...]) -> None:
    made = demand.read(["vllm", "serve", "m", *flags.split()], {}, named("h100"))
    found = (made.sequences, made.batched, made.utilization, made.tensor, made.speculative, made.draft)
    assert found == expected


def test_defaults_follow_the_gpu() -> None:
    small, large = (demand.read(["vllm", "serve", "m"], {}, named(name)) for name in ("24GB", "b200"))
    assert (small.sequences, small.batched) == (256, 2048)
    assert (large.sequences, large.batched) == (1024, 16384)

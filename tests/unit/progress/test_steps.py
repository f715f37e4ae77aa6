"""Steps of a start from vLLM's log."""

from __future__ import annotations

from pathlib import Path

import pytest

from stack.progress.steps import Phase, after, phase

LOGS = Path(__file__).parents[1] / "engine_logs"
WEIGHTS = "loading the model's weights"
# As vLLM 0.32's GPU build prints: put together from its source (default_loader.py and weight_utils.py, monitor.py,
# backends.py, gpu_model_runner.py, kv_cache_utils.py, core.py), with the prefixes of two tensor-parallel workers.
GPU = """\
starting: vllm serve m --tensor-parallel-size 2
(EngineCore pid=7) INFO 11-24 10:00:09 [core.py:133] Initializing a V1 LLM engine (v0.32.0) with config: model='m'
(Worker_TP0 pid=8) INFO 11-24 10:00:20 [gpu_model_runner.py:5040] Starting to load model m...
(Worker_TP1 pid=9) INFO 11-24 10:00:20 [gpu_model_runner.py:5040] Starting to load model m...
(Worker_TP0 pid=8) INFO 11-24 10:01:20 [weight_utils.py:533] Time spent downloading weights for m: 60.000000 seconds
(Worker_TP0 pid=8) \rLoading safetensors checkpoint shards:   0% Completed | 0/8 [00:00<?, ?it/s]
(Worker_TP0 pid=8) \rLoading safetensors checkpoint shards:  38% Completed | 3/8 [00:12<00:20,  4.00s/it]
Loading safetensors using Fastsafetensor loader:  62% Completed | 5/8 [00:20<00:12,  4.00s/it]
(Worker_TP1 pid=9) INFO 11-24 10:01:50 [default_loader.py:501] Loading weights took 31.10 seconds
(Worker_TP0 pid=8) INFO 11-24 10:01:52 [default_loader.py:501] Loading weights took 32.20 seconds
(Worker_TP0 pid=8) INFO 11-24 10:01:54 [gpu_model_runner.py:5150] Model loading took 19.1 GiB memory and 93.9 seconds
(Worker_TP0 pid=8) INFO 11-24 10:01:56 [monitor.py:40] Starting torch.compile
(Worker_TP0 pid=8) INFO 11-24 10:02:06 [backends.py:1166] Dynamo bytecode transform time: 9.50 s
(Worker_TP0 pid=8) INFO 11-24 10:02:30 [backends.py:398] Compiling a graph for compile range (1, 8192) takes 24.00 s
(EngineCore pid=7) INFO 11-24 10:02:40 [kv_cache_utils.py:2327] GPU KV cache size: 93,184 tokens
DeepGEMM warmup:  50%|#####     | 12/24 [00:03<00:03,  4.00it/s]
Capturing CUDA graphs (mixed prefill-decode, PIECEWISE):  50%|#####     | 30/60 [00:03<00:03,  9.00it/s]
Capturing CUDA graphs (decode, FULL):  10%|#         | 3/30 [00:00<00:03,  9.00it/s]
(Worker_TP1 pid=9) INFO 11-24 10:02:44 [default_loader.py:501] Loading weights took 31.10 seconds
(EngineCore pid=7) INFO 11-24 10:02:50 [core.py:386] init engine (profile, create kv cache, warmup model) took 40.00 s
(APIServer pid=6) INFO 11-24 10:02:51 [entry.py:140] Starting vLLM server on http://127.0.0.1:8000
INFO:     Application startup complete.
"""


def pieces(text: str) -> list[str]:
    """As follow.FileLog cuts it."""
    return [piece for line in text.split("\n") for piece in line.split("\r") if piece.strip()]


def walk(text: str) -> list[Phase]:
    found, now = [], Phase()
    for line in pieces(text):
        before, now = now, after(now, line)
        if now != before:
            found.append(now)
    return found


def test_gpu() -> None:
    assert [(one.name, one.detail, one.done, one.whole) for one in walk(GPU)] == [
        ("starting Python and vLLM", "", None, False),
        ("loading the model", "", None, False),
        (WEIGHTS, "", None, False),
        (WEIGHTS, "0 of 8 shards", 0.0, True),
        (WEIGHTS, "3 of 8 shards", 0.38, True),
        (WEIGHTS, "5 of 8 parts", 0.62, True),
        ("preparing memory", "", None, False),
        ("compiling", "", None, False),
        ("warming up", "", None, False),
        ("warming up", "12 of 24 kernels", 0.5, False),
        ("capturing CUDA graphs", "30 of 60 graphs", 0.5, False),
        ("capturing CUDA graphs", "3 of 30 graphs", 0.1, False),
        ("opening its port", "", None, False),
        ("ready", "", None, False),
    ]


def test_recorded_on_a_cpu() -> None:
    log = (LOGS / "healthy.log").read_text()
    assert [one.name for one in walk(log) if not one.detail] == [
        "starting Python and vLLM",
        "loading the model",
        WEIGHTS,
        "preparing memory",
        "warming up",
        "opening its port",
        "ready",
        "stopping",
    ]
    assert Phase(WEIGHTS, "1 of 1 shards", 1.0, True) in walk(log)


@pytest.mark.parametrize("log", ["missing-weights", "memory-kv-space", "worker-killed", "disk-full"])
def test_logs_of_failed_starts_end_while_loading(log: str) -> None:
    assert phase((LOGS / f"{log}.log").read_text().splitlines()).name not in ("", "ready", "stopping")


def test_only_the_last_start_counts() -> None:
    assert phase(pieces(GPU + GPU[:200])).name == "loading the model"
    assert phase([]) == Phase()
    assert phase(["Loading safetensors checkpoint shards:  38% Completed | 3/8 [00:12<00:20,  4.00s/it]"]) == Phase()


@pytest.mark.parametrize(
    ("line", "counts"),
    [
        ("(Worker pid=1) Starting torch.compile", True),
        ("(VllmWorker-0 pid=1) Starting torch.compile", True),
        ("(Worker_DP0_TP0_EP0 pid=12) Starting torch.compile", True),
        ("(Worker_DP0_TP10 pid=1) Starting torch.compile", False),
        ("(EngineCore_DP1 pid=1) Starting torch.compile", False),
        ("(APIServer pid=123) Starting torch.compile", True),
    ],
)
def test_of_several_processes_the_first_one_counts(line: str, counts: bool) -> None:
    assert (after(Phase(WEIGHTS), line).name == "compiling") == counts

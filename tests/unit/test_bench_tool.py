"""What `vllm bench serve` is called with, and what its result file becomes."""

from __future__ import annotations

import json
from typing import Any

import pytest

from stack.bench import tool
from stack.bench.tool import Load
from stack.errors import RunError

TEN = Load(output_tokens=10)


def result(**changes: Any) -> str:
    """A result file of two good answers and one refused one."""
    data = {
        "errors": ["", "Too Many Requests", ""],
        "ttfts": [0.1, 0.0, 0.3],
        "latencies": [1.0, 0.0, 2.1],
        "output_lens": [10, 0, 10],
        "itls": [[0.1] * 3, [], [0.2] * 3],
        "duration": 4.0,
        **changes,
    }
    return json.dumps(data)


def parsed(text: str, load: Load = TEN) -> Any:
    return tool.parse(text, load, "gateway", 4, ["vllm", "bench"])


def test_argument_list_of_chat() -> None:
    load = Load(input_tokens=100, output_tokens=20)
    argv = tool.argv(
        "/e/bin/vllm", load, "http://127.0.0.1:4000", 16, ["--tokenizer", "/weights"], "salt-1", "/tmp/a b/r.json"
    )
    assert argv == [
        "/e/bin/vllm", "bench", "serve",
        "--backend", "openai-chat",
        "--base-url", "http://127.0.0.1:4000",
        "--endpoint", "/v1/chat/completions",
        "--model", "vllm_agent",
        "--tokenizer", "/weights",
        "--dataset-name", "random",
        "--ignore-eos",
        "--seed", "1",
        "--random-input-len", "100",
        "--random-output-len", "20",
        "--num-prompts", "32",
        "--max-concurrency", "16",
        "--extra-body", '{"cache_salt": "salt-1"}',
        "--save-result",
        "--save-detailed",
        "--result-dir", "/tmp/a b",
        "--result-filename", "r.json",
    ]  # fmt: skip


def test_argument_list_of_completions() -> None:
    argv = tool.argv("vllm", Load(route="completions"), "http://litellm:4000", 1, [], "s", "/tmp/r.json")
    assert argv[3:9] == ["--backend", "openai", "--base-url", "http://litellm:4000", "--endpoint", "/v1/completions"]


@pytest.mark.parametrize(
    ("concurrency", "asked", "sent"), [(1, 0, 8), (4, 0, 8), (16, 0, 32), (64, 0, 64), (100, 0, 100), (64, 5, 5)]
)
def test_requests_follow_concurrency(concurrency: int, asked: int, sent: int) -> None:
    assert Load(requests=asked).count(concurrency) == sent


@pytest.mark.parametrize(
    ("command", "revision", "options"),
    [
        ("org/m", "", ["--tokenizer", "org/m"]),
        ("org/m", "abc", ["--tokenizer", "/hub/models--org--m/snapshots/abc"]),
        ("/weights/m", "abc", ["--tokenizer", "/weights/m"]),
        ("./weights/m", "abc", ["--tokenizer", "./weights/m"]),
        ("org/m --tokenizer=org/t", "abc", ["--tokenizer", "org/t"]),
        (
            "org/m --tokenizer-mode mistral --trust_remote_code",
            "",
            ["--tokenizer", "org/m", "--tokenizer-mode", "mistral", "--trust-remote-code"],
        ),
    ],
)
def test_tokenizer_is_the_served_models(command: str, revision: str, options: list[str]) -> None:
    assert tool.tokenizer(["vllm", "serve", *command.split()], "/hub", revision) == options


def test_figures_are_of_what_succeeded() -> None:
    row = parsed(result())
    assert (row.side, row.concurrency, row.requests, row.errors, row.error) == ("gateway", 4, 3, 1, "Too Many Requests")
    assert row.output_tokens_per_s == 5.0  # two answers of ten tokens in four seconds
    assert row.requests_per_s == 0.5
    assert row.ttft_ms == {"p50": 200.0, "p95": 290.0, "p99": 298.0}
    assert row.tpot_ms == {"p50": 150.0, "p95": 195.0, "p99": 199.0}
    assert row.e2e_ms == {"p50": 1550.0, "p95": 2045.0, "p99": 2089.0}
    assert row.command == ("vllm", "bench")


def test_tokens_are_those_asked_for_not_those_counted_again() -> None:
    row = parsed(result(output_lens=[9, 0, 7]))
    assert (row.errors, row.output_tokens_per_s) == (1, 5.0)


def test_an_answer_that_broke_off_is_an_error() -> None:
    row = parsed(result(output_lens=[10, 0, 4]))
    assert (row.errors, row.requests_per_s) == (2, 0.25)
    assert parsed(result(output_lens=[3, 0, 10])).error == "the answer broke off after about 4 of 10 tokens"


def test_many_chunks_make_up_for_few_counted_tokens() -> None:
    assert parsed(result(output_lens=[3, 0, 10], itls=[[0.1] * 9, [], []])).errors == 1


def test_of_a_traceback_the_last_line_is_shown() -> None:
    row = parsed(result(errors=["", "Traceback:\n  File x\nClientOSError: reset\n", ""]))
    assert row.error == "ClientOSError: reset"


def test_no_answer_has_no_times() -> None:
    row = parsed(result(errors=["a", "b", "c"]))
    assert row.output_tokens_per_s == 0
    assert row.ttft_ms == {"p50": None, "p95": None, "p99": None}


def test_one_token_has_no_time_for_further_ones() -> None:
    row = parsed(result(output_lens=[1, 0, 1]), Load(output_tokens=1))
    assert row.tpot_ms == {"p50": None, "p95": None, "p99": None}
    assert row.ttft_ms["p50"] == 200.0


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", result(duration=None), result(ttfts=[1.0]), result(latencies=None)], ids=range(6)
)
def test_another_kind_of_file_is_an_error(text: str) -> None:
    with pytest.raises(RunError, match="result cannot be read"):
        parsed(text)


def test_percentiles_lie_between_the_nearest() -> None:
    assert tool.milliseconds([0.004, 0.001, 0.002, 0.003]) == {"p50": 2.5, "p95": 3.85, "p99": 3.97}
    assert tool.milliseconds([0.5]) == {"p50": 500.0, "p95": 500.0, "p99": 500.0}

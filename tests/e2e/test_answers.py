"""Real clients get real answers through port 4000 of a stack that runMe.sh brought up."""

from __future__ import annotations

import http.client
import re
import subprocess
import time
from typing import Any

import anthropic
import pytest

from harness import QUESTION, Stack

pytestmark = pytest.mark.both


def test_openai_sdk(stack: Stack) -> None:
    for model in ("vllm_agent", "smollm2-135m"):
        answer = stack.openai().chat.completions.create(
            model=model, temperature=0, messages=[{"role": "user", "content": QUESTION}]
        )
        assert "Paris" in (answer.choices[0].message.content or "")
        assert answer.usage is not None
        assert answer.usage.completion_tokens > 0


def test_openai_sdk_streaming(stack: Stack) -> None:
    stream = stack.openai().chat.completions.create(
        model="smollm2-135m", temperature=0, stream=True, messages=[{"role": "user", "content": QUESTION}]
    )
    pieces = [chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices]
    assert "Paris" in "".join(pieces)
    assert len([piece for piece in pieces if piece]) > 3


def test_openai_sdk_responses(stack: Stack) -> None:
    answer = stack.openai().responses.create(model="smollm2-135m", temperature=0, input=QUESTION)
    assert "Paris" in answer.output_text


def test_anthropic_sdk(stack: Stack) -> None:
    client = anthropic.Anthropic(base_url=stack.url, auth_token="sk-FAKE", max_retries=0)
    answer = client.messages.create(
        model="smollm2-135m", max_tokens=64, extra_body={"temperature": 0}, messages=[{"role": "user", "content": QUESTION}]
    )
    assert "Paris" in "".join(block.text for block in answer.content if block.type == "text")


def test_anthropic_sdk_streaming(stack: Stack) -> None:
    client = anthropic.Anthropic(base_url=stack.url, auth_token="sk-FAKE", max_retries=0)
    with client.messages.stream(
        model="smollm2-135m", max_tokens=64, extra_body={"temperature": 0}, messages=[{"role": "user", "content": QUESTION}]
    ) as stream:
        assert "Paris" in "".join(stream.text_stream)


def test_an_idle_connection_outlives_its_client(stack: Stack) -> None:
    """Who closes first loses what is sent in that moment: clients and the gateway keep theirs for 5 s and more."""
    ports = {"gateway": (stack.port, "/health/liveliness"), "engine": (stack.engine_port, "/health")}
    open_ones = {part: http.client.HTTPConnection("127.0.0.1", port, timeout=30) for part, (port, _) in ports.items()}
    sockets: dict[str, Any] = {}
    for round_number in range(2):
        for part, connection in open_ones.items():
            connection.request("GET", ports[part][1])
            answer = connection.getresponse()
            assert (part, answer.status) == (part, 200)
            answer.read()
            assert connection.sock is sockets.setdefault(part, connection.sock), f"the {part} closed its connection"
        if not round_number:
            time.sleep(6.5)


def test_the_curl_that_up_prints(stack: Stack) -> None:
    printed = stack.run().stdout
    command = re.search(r"curl .*?\}'$", printed, re.MULTILINE | re.DOTALL)
    assert command, printed
    done = subprocess.run(["bash", "-c", command[0]], capture_output=True, text=True, timeout=120)
    assert "Paris" in done.stdout, done


def test_models_lists_both_names(stack: Stack) -> None:
    assert {model.id for model in stack.openai().models.list()} == {"vllm_agent", "smollm2-135m"}


def test_too_long_a_prompt_is_refused(stack: Stack) -> None:
    body = {"model": "smollm2-135m", "messages": [{"role": "user", "content": "word " * 9000}]}
    status, answer = stack.call("/v1/chat/completions", body)
    assert status == 400, answer


def test_an_unknown_parameter_is_dropped(stack: Stack) -> None:
    body = {"model": "smollm2-135m", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 4, "no_such": 1}
    status, answer = stack.call("/v1/chat/completions", body)
    assert status == 200, answer

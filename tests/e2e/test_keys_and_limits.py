"""Who may do what, and how much of it at once."""

from __future__ import annotations

import threading
import time
from collections import Counter
from typing import Any

import pytest

from harness import Stack
from load import crowd

LIMIT = 16
MESSAGES = [{"role": "user", "content": "Count from one to five hundred in words."}]
ROUTES: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"messages": MESSAGES, "max_tokens": 60, "ignore_eos": True},
    "/v1/completions": {"prompt": "one two three", "max_tokens": 60, "ignore_eos": True},
    "/v1/messages": {"messages": MESSAGES, "max_tokens": 60, "ignore_eos": True},
    "/v1/responses": {"input": "Count from one to five hundred in words.", "max_output_tokens": 60, "ignore_eos": True},
}


def test_a_wrong_key_gets_401(stack: Stack) -> None:
    for path, body in ROUTES.items():
        status, _ = stack.call(path, {"model": "vllm_agent", **body}, key="sk-not-a-key-of-this-stack")
        assert status == 401, path


def test_the_engine_wants_its_own_key(stack: Stack) -> None:
    base = f"http://127.0.0.1:{stack.engine_port}"
    assert stack.call("/v1/models", base=base)[0] == 401
    status, body = stack.call("/v1/models", base=base, key=stack.secret("VLLM_API_KEY"))
    assert status == 200
    assert [model["id"] for model in body["data"]] == ["smollm2-135m", "vllm_agent"]


@pytest.mark.parametrize(
    "path", ["/key/generate", "/key/delete", "/key/update", "/user/new", "/model/new", "/config/update"]
)
def test_the_local_key_cannot_administer(stack: Stack, path: str) -> None:
    status, answer = stack.call(path, {"keys": ["sk-FAKE"], "key": "sk-FAKE", "max_parallel_requests": 1000})
    assert status in (401, 403), answer


def test_a_key_made_with_the_master_key_works(stack: Stack) -> None:
    status, made = stack.call("/key/generate", {"max_parallel_requests": 2}, key=stack.secret("LITELLM_MASTER_KEY"))
    assert status == 200, made
    body = {"model": "vllm_agent", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 4}
    assert stack.call("/v1/chat/completions", body, key=made["key"])[0] == 200


def test_a_key_that_is_blocked_or_deleted_is_refused_at_once(stack: Stack) -> None:
    """Although the gateway remembers keys, so as to outlast its database."""
    master = stack.secret("LITELLM_MASTER_KEY")
    body = {"model": "vllm_agent", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 4}
    key = stack.call("/key/generate", {}, key=master)[1]["key"]
    for path, refusal, then in (("/key/block", (401, 403), "/key/unblock"), ("/key/delete", (401,), "")):
        assert stack.call("/v1/chat/completions", body, key=key)[0] == 200
        assert stack.call(path, {"keys": [key], "key": key} if path == "/key/delete" else {"key": key}, key=master)[0] == 200
        assert stack.call("/v1/chat/completions", body, key=key)[0] in refusal
        if then:
            assert stack.call(then, {"key": key}, key=master)[0] == 200


@pytest.mark.parametrize(
    ("path", "stream"),
    [
        ("/v1/chat/completions", False),
        ("/v1/chat/completions", True),
        ("/v1/completions", True),
        ("/v1/messages", True),
        ("/v1/responses", False),
    ],
)
def test_forty_at_once_with_a_limit_of_sixteen(stack: Stack, path: str, stream: bool) -> None:
    body = {"model": "vllm_agent", "stream": stream, **ROUTES[path]}
    highest = 0
    done = threading.Event()

    def watch() -> None:
        nonlocal highest
        while not done.is_set():
            highest = max(highest, stack.requests_inside())
            time.sleep(0.05)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        answers = crowd(stack, lambda: stack.call(path, body), 40, 40 - LIMIT)
    finally:
        done.set()
        watcher.join()
    assert [answer for answer in answers if answer[0] not in (200, 429)] == []
    assert Counter(status for status, _ in answers) == {200: LIMIT, 429: 40 - LIMIT}
    assert 0 < highest <= LIMIT
    # The places are free again at once.
    assert stack.call(path, body)[0] == 200


def test_a_new_limit_applies_after_up(stack: Stack) -> None:
    before = stack.pids()
    stack.run(MAX_PARALLEL_REQUESTS="3")
    after = stack.pids()
    assert after["engine"] == before["engine"], "a limit of the gateway must not restart the engine"
    body = {"model": "vllm_agent", **ROUTES["/v1/chat/completions"]}
    statuses = Counter(status for status, _ in crowd(stack, lambda: stack.call("/v1/chat/completions", body), 10, 7))
    assert statuses == {200: 3, 429: 7}


def test_the_local_key_can_be_switched_off(stack: Stack) -> None:
    body = {"model": "vllm_agent", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 4}
    stack.run(LOCAL_KEY="false", BIND_ADDRESS="0.0.0.0")
    assert stack.call("/v1/chat/completions", body)[0] == 401
    assert stack.call("/v1/chat/completions", body, key=stack.secret("LITELLM_MASTER_KEY"))[0] == 200
    assert stack.run("status").returncode == 0
    stack.run()
    assert stack.call("/v1/chat/completions", body)[0] == 200

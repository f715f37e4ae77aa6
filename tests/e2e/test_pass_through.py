"""Plain requests reach the engine as they are, and lose nothing by it: keys, limits, defaults, books, errors."""

from __future__ import annotations

import json
import threading
import time
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest

from harness import Stack, wait_for
from streams import endless, read_pieces

pytestmark = pytest.mark.only("native", reason="the gateway is the same in a container")
MESSAGES = [{"role": "user", "content": "Name three rivers."}]
ROUTES: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"messages": MESSAGES, "max_tokens": 12},
    "/v1/completions": {"prompt": "one two three", "max_tokens": 12, "ignore_eos": True},
    "/v1/messages": {"messages": MESSAGES, "max_tokens": 12},
    "/v1/responses": {"input": "Name three rivers.", "max_output_tokens": 12},
}
ORDINARY = {"drop_params": True}  # a parameter of LiteLLM's own
Row = tuple[str, int, int, str]


@pytest.fixture
def key(stack: Stack) -> Iterator[dict[str, str]]:
    """A key of its own, so that its rows in the books are known."""
    master = stack.secret("LITELLM_MASTER_KEY")
    made = stack.call("/key/generate", {}, key=master)[1]
    yield made
    stack.call("/key/delete", {"keys": [made["key"]]}, key=master)


def rows(stack: Stack, key: dict[str, str], count: int) -> list[Row]:
    """The books, once they have `count` rows of the key: kind of call, tokens in, tokens out, model."""
    found: list[Row] = []

    def written() -> bool:
        with stack.database() as cursor:
            cursor.execute(
                "SELECT call_type, prompt_tokens, completion_tokens, model_group "
                'FROM "LiteLLM_SpendLogs" WHERE api_key = %s AND status = %s ORDER BY "startTime"',
                (key["token"], "success"),
            )
            found[:] = cursor.fetchall()
        return len(found) >= count

    wait_for(written, "usage to be written")
    return found


def events(stack: Stack, path: str, body: dict[str, Any], key: str) -> list[dict[str, Any]]:
    """The data of a stream's events; the final [DONE] is left out."""
    request = urllib.request.Request(
        stack.url + path,
        json.dumps({"model": "vllm_agent", "stream": True, **body}).encode(),
        {"Authorization": f"Bearer {key}", "Content-Type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=120) as answer:
        lines = [line[6:] for line in answer.read().decode().splitlines() if line.startswith("data: ")]
    return [json.loads(line) for line in lines if line != "[DONE]"]


def tokens(usage: dict[str, int]) -> tuple[int, int]:
    return usage.get("prompt_tokens", usage.get("input_tokens", 0)), usage.get(
        "completion_tokens", usage.get("output_tokens", 0)
    )


@pytest.mark.parametrize("path", ROUTES)
def test_the_books_have_the_engines_own_count(stack: Stack, key: dict[str, str], path: str) -> None:
    status, whole = stack.call(path, {"model": "smollm2-135m", **ROUTES[path]}, key=key["key"])
    assert status == 200, whole
    events(stack, path, ROUTES[path], key["key"])
    first, second = rows(stack, key, 2)
    assert first == ("pass_through_endpoint", *tokens(whole["usage"]), "smollm2-135m")
    assert second == ("pass_through_endpoint", first[1], 12, "smollm2-135m")


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
def test_a_stream_has_the_count_only_if_asked(stack: Stack, path: str) -> None:
    plain = events(stack, path, ROUTES[path], "sk-FAKE")
    assert [event for event in plain if not event["choices"] or event.get("usage")] == []
    asked = events(stack, path, {**ROUTES[path], "stream_options": {"include_usage": True}}, "sk-FAKE")
    assert asked[-1]["choices"] == []
    assert asked[-1]["usage"]["completion_tokens"] == 12


def test_what_only_litellm_can_do_takes_its_own_way(stack: Stack, key: dict[str, str]) -> None:
    path = "/v1/chat/completions"
    status, answer = stack.call(path, {"model": "vllm_agent", **ROUTES[path], **ORDINARY}, key=key["key"])
    assert status == 200, answer
    assert rows(stack, key, 1) == [("acompletion", *tokens(answer["usage"]), "smollm2-135m")]


def test_a_limit_of_tokens_a_minute_is_kept(stack: Stack) -> None:
    """By LiteLLM's ordinary way, which sets tokens aside before it knows how many there will be."""
    master = stack.secret("LITELLM_MASTER_KEY")
    made = stack.call("/key/generate", {"tpm_limit": 60}, key=master)[1]
    body = {"model": "vllm_agent", **ROUTES["/v1/chat/completions"]}
    statuses = [stack.call("/v1/chat/completions", body, key=made["key"])[0] for _ in range(4)]
    assert statuses[0] == 200
    assert statuses[-1] == 429
    assert rows(stack, made, 1)[0][0] == "acompletion"
    stack.call("/key/delete", {"keys": [made["key"]]}, key=master)


@pytest.mark.parametrize("path", ROUTES)
def test_a_key_for_another_model_is_refused(stack: Stack, path: str) -> None:
    master = stack.secret("LITELLM_MASTER_KEY")
    made = stack.call("/key/generate", {"models": ["another-model"]}, key=master)[1]["key"]
    status, answer = stack.call(path, {"model": "vllm_agent", **ROUTES[path]}, key=made)
    stack.call("/key/delete", {"keys": [made]}, key=master)
    assert status in (401, 403), answer


@pytest.mark.parametrize("extra", [{}, ORDINARY], ids=["passed through", "ordinary way"])
def test_both_ways_share_one_limit(stack: Stack, extra: dict[str, Any]) -> None:
    """Sixteen places are taken by requests that are passed through; the seventeenth finds none, whichever way it takes."""
    with endless(stack, 16) as running:
        status, answer = stack.call("/v1/messages", {"model": "vllm_agent", **ROUTES["/v1/messages"], **extra})
        assert [(stream.is_alive(), stream.error) for stream in running] == [(True, "")] * 16
    assert status == 429, answer


def test_a_client_that_goes_away_frees_its_place_and_the_engine(stack: Stack, key: dict[str, str]) -> None:
    def abandon(path: str) -> None:
        body = {
            **ROUTES[path],
            "max_output_tokens" if path == "/v1/responses" else "max_tokens": 2000,
            "model": "vllm_agent",
        }
        request = urllib.request.Request(
            stack.url + path,
            json.dumps({**body, "stream": True}).encode(),
            {"Authorization": f"Bearer {key['key']}", "Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            read_pieces(answer, path, 3)

    threads = [threading.Thread(target=abandon, args=(path,)) for path in ROUTES for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    began = time.monotonic()
    wait_for(lambda: stack.requests_inside() == 0, "the engine to stop generating")
    assert time.monotonic() - began < 10, "twelve answers of 2,000 tokens take far longer"
    # What was read until then is in the books, estimated where the engine told no count.
    found = rows(stack, key, len(threads))
    assert [row for row in found if not (row[1] > 0 and 0 < row[2] < 200)] == []


def test_it_can_be_switched_off(stack: Stack, key: dict[str, str]) -> None:
    before = stack.pids()
    stack.run(GATEWAY_PASS_THROUGH="false")
    assert stack.pids()["engine"] == before["engine"]
    status, answer = stack.call(
        "/v1/chat/completions", {"model": "vllm_agent", **ROUTES["/v1/chat/completions"]}, key=key["key"]
    )
    assert status == 200
    assert rows(stack, key, 1) == [("acompletion", *tokens(answer["usage"]), "smollm2-135m")]

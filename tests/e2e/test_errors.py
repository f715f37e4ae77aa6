"""A mistake of the client gets the right status, in the shape of the API that the client speaks, on every route."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import Any

import anthropic
import openai
import pytest

from harness import Stack
from load import crowd

pytestmark = pytest.mark.only("native", reason="the gateway is the same in a container")
MESSAGES = [{"role": "user", "content": "Hi"}]
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
ROUTES: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"messages": MESSAGES, "max_tokens": 4},
    "/v1/completions": {"prompt": "Hi", "max_tokens": 4},
    "/v1/messages": {"messages": MESSAGES, "max_tokens": 4},
    "/v1/responses": {"input": "Hi", "max_output_tokens": 16},
    "/v1/messages/count_tokens": {"messages": MESSAGES},
}
ANTHROPIC_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    404: "not_found_error",
    405: "invalid_request_error",
    413: "request_too_large",
    429: "rate_limit_error",
}
ALL_NAMES = "there is vllm_agent, smollm2-135m"


def send(stack: Stack, path: str, raw: bytes, key: str = "sk-FAKE", method: str = "POST") -> tuple[int, str, Any, Any]:
    """Status, message, code (OpenAI's) and headers of a request that fails; the shape is checked."""
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    request = urllib.request.Request(stack.url + path, raw if method == "POST" else None, headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=120) as answer:
            return answer.status, answer.read().decode(), None, answer.headers
    except urllib.error.HTTPError as error:
        body = json.loads(error.read())
        status, answered = error.code, error.headers
    assert answered["content-type"] == "application/json"
    if path.startswith("/v1/messages"):
        assert set(body) == {"type", "error"}, body
        assert (body["type"], body["error"]["type"]) == ("error", ANTHROPIC_TYPES[status])
        return status, body["error"]["message"], None, answered
    assert set(body) == {"error"}, body
    assert set(body["error"]) == {"message", "type", "param", "code"}
    assert body["error"]["type"] == ("rate_limit_error" if status == 429 else "invalid_request_error")
    return status, body["error"]["message"], body["error"]["code"], answered


def ask(stack: Stack, path: str, key: str = "sk-FAKE", **changes: Any) -> tuple[int, str, Any, Any]:
    body = {"model": "vllm_agent", **ROUTES[path], **changes}
    return send(stack, path, json.dumps(body).encode(), key)


@pytest.mark.parametrize("path", ROUTES)
def test_mistakes(stack: Stack, path: str) -> None:
    for key in ("sk-nobody", ""):
        status, _, code, _ = ask(stack, path, key)
        assert (status, code) == (401, None if path.startswith("/v1/messages") else "invalid_api_key")
    for stream in (False, True):
        status, message, code, _ = ask(stack, path, model="gpt-9", stream=stream)
        assert (status, message) == (404, f"the model `gpt-9` does not exist; {ALL_NAMES}")
        assert code == (None if path.startswith("/v1/messages") else "model_not_found")
        text = "word " * 9000
        long: dict[str, Any] = {"messages": [{"role": "user", "content": text}]} if "messages" in ROUTES[path] else {}
        long |= {name: text for name in ("prompt", "input") if name in ROUTES[path]}
        status, message, code, _ = ask(stack, path, stream=stream, **long)
        assert (status, "maximum context length is 8192 tokens" in message) == (400, True)
        assert code == (None if path.startswith("/v1/messages") else "context_length_exceeded")
    status, message, _, _ = send(stack, path, json.dumps(ROUTES[path]).encode())
    assert (status, message) == (400, f"the request names no model; {ALL_NAMES}")
    assert send(stack, path, b"{nonsense")[0] == 400
    assert send(stack, path, b"[1]")[:2] == (400, "the request's body is no JSON object")
    assert send(stack, path, b"", method="GET")[0] == 405
    large = json.dumps({"model": "vllm_agent", **ROUTES[path], "x": "a" * (33 << 20)}).encode()
    assert send(stack, path, large)[:2] == (413, "the request is larger than 33554432 bytes (MAX_REQUEST_SIZE)")
    if path != "/v1/messages/count_tokens":
        assert ask(stack, path, temperature="hot")[0] == 400
    # After all this it answers.
    assert ask(stack, path)[0] == 200


def test_an_image_for_a_model_without_eyes(stack: Stack) -> None:
    content = [{"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}}]
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PIXEL}}
    for path, part in (("/v1/chat/completions", content), ("/v1/messages", [image])):
        status, message, _, _ = ask(stack, path, messages=[{"role": "user", "content": part}])
        assert (status, message) == (400, "smollm2-135m is not a multimodal model")


def test_embeddings_of_a_model_that_generates(stack: Stack) -> None:
    body = json.dumps({"model": "vllm_agent", "input": "Hi"}).encode()
    told = "the model `smollm2-135m` generates text; it does not answer on /v1/embeddings"
    assert send(stack, "/v1/embeddings", body)[:2] == (400, told)


def test_an_earlier_answer_is_not_kept(stack: Stack) -> None:
    told = "previous_response_id: answers are not kept; send the whole conversation as `input`"
    assert ask(stack, "/v1/responses", previous_response_id="resp_1")[:2] == (400, told)


def test_a_page_that_is_not_there(stack: Stack) -> None:
    assert send(stack, "/v1/nothing", b"{}")[:2] == (404, "Not Found")


@pytest.mark.parametrize("ordinary", [False, True], ids=["passed through", "ordinary way"])
@pytest.mark.parametrize("path", [path for path in ROUTES if path != "/v1/messages/count_tokens"])
def test_too_many_at_once_are_told_when_to_come_back(stack: Stack, path: str, ordinary: bool) -> None:
    length = "max_output_tokens" if path == "/v1/responses" else "max_tokens"
    changes: dict[str, Any] = {length: 40, **({"drop_params": True} if ordinary else {})}
    answers = crowd(stack, lambda: ask(stack, path, **changes), 20, 4)
    refused = [answer for answer in answers if answer[0] != 200]
    assert len(refused) == 4
    told = "this key may have 16 requests under way at once (max_parallel_requests); one of them has to end first"
    assert {(status, message, headers["Retry-After"]) for status, message, _, headers in refused} == {(429, told, "1")}


def test_the_sdks_know_the_errors(stack: Stack) -> None:
    client = stack.openai()
    with pytest.raises(openai.NotFoundError) as unknown:
        client.chat.completions.create(model="gpt-9", messages=[{"role": "user", "content": "Hi"}])
    assert unknown.value.code == "model_not_found"
    with pytest.raises(openai.AuthenticationError):
        stack.openai("sk-nobody").responses.create(model="vllm_agent", input="Hi")
    claude = anthropic.Anthropic(base_url=stack.url, auth_token="sk-nobody", max_retries=0)
    with pytest.raises(anthropic.AuthenticationError):
        claude.messages.create(model="vllm_agent", max_tokens=4, messages=[{"role": "user", "content": "Hi"}])
    claude = anthropic.Anthropic(base_url=stack.url, auth_token="sk-FAKE", max_retries=0)
    with pytest.raises(anthropic.NotFoundError):
        claude.messages.count_tokens(model="gpt-9", messages=[{"role": "user", "content": "Hi"}])


def test_names_and_counts(stack: Stack) -> None:
    """Every name reaches the model, whose answers bear its own; tokens are counted by its own tokenizer."""
    client = stack.openai()
    for name in ("vllm_agent", "smollm2-135m", "claude-sonnet-5"):
        answer = client.chat.completions.create(model=name, max_tokens=2, messages=[{"role": "user", "content": "Hi"}])
        assert answer.model == "smollm2-135m"
        assert client.models.retrieve("smollm2-135m").id == "smollm2-135m"
    assert {model.id for model in client.models.list()} == {"vllm_agent", "smollm2-135m"}
    claude = anthropic.Anthropic(base_url=stack.url, auth_token="sk-FAKE", max_retries=0)
    counted = claude.messages.count_tokens(model="claude-haiku-4-5", messages=[{"role": "user", "content": "Hi"}])
    message = claude.messages.create(model="claude-haiku-4-5", max_tokens=2, messages=[{"role": "user", "content": "Hi"}])
    assert counted.input_tokens == message.usage.input_tokens

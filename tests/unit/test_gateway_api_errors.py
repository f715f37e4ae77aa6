"""Errors are reshaped on the way out, and nothing else is touched."""

from __future__ import annotations

import asyncio
import gzip
import json
import sys
from collections.abc import Iterator
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

Messages = list[dict[str, Any]]


@pytest.fixture
def app(monkeypatch: pytest.MonkeyPatch) -> Iterator[SimpleNamespace]:
    """LiteLLM's application; scripts/gateway_api_errors.py has wrapped it."""
    made = SimpleNamespace(middleware_stack=None, build_middleware_stack=lambda: answering([]))
    members: dict[str, dict[str, Any]] = {
        "litellm": {},
        "litellm.integrations": {},
        "litellm.integrations.custom_logger": {"CustomLogger": object},
        "litellm.proxy": {},
        "litellm.proxy.proxy_server": {"app": made},
        "starlette": {},
        "starlette.middleware": {},
        "starlette.middleware.body_limit": {"RequestBodyLimitMiddleware": lambda inner, most: inner},
    }
    for name, contents in members.items():
        module = ModuleType(name)
        vars(module).update(contents)
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setenv("MAX_REQUEST_SIZE", "1K")
    monkeypatch.delitem(sys.modules, "gateway_api_errors", raising=False)
    import gateway_api_errors

    yield SimpleNamespace(litellm=made, module=gateway_api_errors)
    sys.modules.pop("gateway_api_errors", None)


def answering(messages: Messages) -> Any:
    async def inner(scope: Any, receive: Any, send: Any) -> None:
        for message in messages:
            await send(message)

    return inner


def start(status: int, *headers: tuple[bytes, bytes]) -> dict[str, Any]:
    return {"type": "http.response.start", "status": status, "headers": [(b"content-length", b"1"), *headers]}


def body(text: bytes, more: bool = False) -> dict[str, Any]:
    return {"type": "http.response.body", "body": text, "more_body": more}


def served(app: SimpleNamespace, messages: Messages, path: str, incoming: Messages | None = None) -> Messages:
    sent: Messages = []
    waiting = list(incoming or [])

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    async def receive() -> dict[str, Any]:
        return waiting.pop(0)

    wrapped = app.module.ApiErrors(answering(messages), 1024)
    asyncio.run(wrapped({"type": "http", "path": path}, receive, send))
    assert not waiting
    return sent


def test_it_is_around_all_of_litellm_once(app: SimpleNamespace) -> None:
    wrapped = app.litellm.middleware_stack
    assert isinstance(wrapped, app.module.ApiErrors)
    app.module.wrap()
    assert app.litellm.middleware_stack is wrapped


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/chat/completions"])
def test_what_is_no_error_goes_through(app: SimpleNamespace, path: str) -> None:
    messages = [start(200), body(b"a", True), body(b'{"error": 1}', True), body(b"")]
    assert served(app, messages, path) == messages


def test_other_pages_keep_their_errors(app: SimpleNamespace) -> None:
    messages = [start(404), body(b"gone")]
    assert served(app, messages, "/ui/x") == messages


def test_an_error_in_pieces(app: SimpleNamespace) -> None:
    whole = b'{"detail": "gone"}'
    messages = [start(404, (b"Retry-After", b"3"), (b"Content-Type", b"text/plain")), body(whole[:5], True), body(whole[5:])]
    head, rest = served(app, messages, "/v1/messages")
    assert json.loads(rest["body"]) == {"type": "error", "error": {"type": "not_found_error", "message": "gone"}}
    length = str(len(rest["body"])).encode()
    assert head["status"] == 404
    assert head["headers"] == [(b"Retry-After", b"3"), (b"content-type", b"application/json"), (b"content-length", length)]


def test_a_compressed_error(app: SimpleNamespace) -> None:
    messages = [start(400, (b"Content-Encoding", b"gzip")), body(gzip.compress(b'{"detail": "no"}'))]
    _, rest = served(app, messages, "/v1/responses")
    assert json.loads(rest["body"])["error"]["message"] == "no"


def test_what_is_too_large_is_read_to_its_end_and_told_the_limit(app: SimpleNamespace) -> None:
    incoming = [
        {"type": "http.request", "body": b"x" * 999, "more_body": True},
        {"type": "http.request", "body": b"", "more_body": False},
    ]
    _, rest = served(app, [start(413), body(b"Content Too Large")], "/v1/messages", incoming)
    told = {"type": "request_too_large", "message": "the request is larger than 1024 bytes (MAX_REQUEST_SIZE)"}
    assert json.loads(rest["body"])["error"] == told

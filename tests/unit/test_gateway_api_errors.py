"""Errors are reshaped on the way out, and nothing else is touched."""

from __future__ import annotations

import asyncio
import gzip
import json
import logging
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


def served(
    app: SimpleNamespace,
    messages: Messages,
    path: str,
    incoming: Messages | None = None,
    headers: tuple[tuple[bytes, bytes], ...] = (),
) -> Messages:
    sent: Messages = []
    waiting = list(incoming or [])

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    async def receive() -> dict[str, Any]:
        return waiting.pop(0)

    wrapped = app.module.ApiErrors(answering(messages), 1024)
    asyncio.run(wrapped({"type": "http", "path": path, "headers": list(headers)}, receive, send))
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
    head, *rest = served(app, messages, path)
    assert head["status"] == 200
    assert head["headers"][:-1] == messages[0]["headers"]
    assert head["headers"][-1][0] == b"x-request-id"
    assert rest == messages[1:]


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
    shaped = [(b"content-type", b"application/json"), (b"content-length", length)]
    assert [header for header in head["headers"] if header[0] != b"x-request-id"] == [(b"Retry-After", b"3"), *shaped]


def test_requests_are_counted_for_who_has_the_master_key(app: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LITELLM_MASTER_KEY", "sk-master")
    requests = app.module.requests
    before = dict(requests.answered)
    for status in (200, 429, 429):
        served(app, [start(status), body(b"{}")], "/v1/messages")
    _, answer = served(app, [], "/stack/requests", headers=((b"authorization", b"Bearer sk-master"),))
    counts = json.loads(answer["body"])
    assert counts["under_way"] == 0
    assert counts["answered"]["429"] == before.get(429, 0) + 2
    assert served(app, [start(404)], "/stack/requests", headers=((b"authorization", b"Bearer sk-FAKE"),)) == [start(404)]
    assert served(app, [start(404)], "/stack/requests") == [start(404)]


def test_each_request_has_an_id_of_its_own(app: SimpleNamespace) -> None:
    """Not the client's: two usage records with one id would be one."""
    seen: list[str] = []

    async def inner(scope: Any, receive: Any, send: Any) -> None:
        given = dict(scope["headers"])
        seen.append(given[b"x-litellm-call-id"].decode())
        await send(start(200, (b"x-request-id", given[b"x-request-id"])))
        record = logging.LogRecord("uvicorn.access", logging.INFO, "", 0, "answered", None, None)
        assert gateway_requests.AccessFormatter().format(record).endswith(f" INFO: answered request {seen[-1]}")

    import gateway_requests

    sent: Messages = []

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    scope = {"type": "http", "path": "/v1/models", "headers": [(b"x-request-id", b"mine")]}
    for _ in range(2):
        asyncio.run(app.module.ApiErrors(inner, 1)(scope, None, send))
    given = [value.decode() for message in sent for name, value in message["headers"] if name == b"x-request-id"]
    assert given == seen
    assert len({*given, "mine"}) == 3


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

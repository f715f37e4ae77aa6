"""Every error has the shape of the API its client speaks."""

from __future__ import annotations

import json
from typing import Any

import pytest

from stack import api_errors


@pytest.mark.parametrize(
    ("path", "api"),
    [
        ("/v1/messages", "anthropic"),
        ("/v1/messages/count_tokens", "anthropic"),
        ("/v1/chat/completions", "openai"),
        ("/chat/completions", "openai"),
        ("/v1/models/m", "openai"),
        ("/v1/messagesx", "openai"),
        ("/key/generate", ""),
        ("/ui", ""),
        ("/health/liveliness", ""),
    ],
)
def test_what_a_path_speaks(path: str, api: str) -> None:
    assert api_errors.speaks(path) == api


def openai(status: int, body: Any) -> dict[str, Any]:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    made = json.loads(api_errors.shaped("openai", status, raw))
    assert list(made) == ["error"]
    assert list(made["error"]) == ["message", "type", "param", "code"]
    return dict(made["error"])


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (
            401,
            {"error": {"message": "no such key", "type": "auth_error", "param": "key", "code": "401"}},
            ("no such key", "invalid_request_error", None, "invalid_api_key"),
        ),
        (
            400,
            {"error": {"message": "maximum context length is 8", "type": "BadRequestError", "param": "input", "code": 400}},
            ("maximum context length is 8", "invalid_request_error", "input", "context_length_exceeded"),
        ),
        (
            404,
            {"error": {"message": "the model `x` does not exist; there is m", "param": "None", "code": "404"}},
            ("the model `x` does not exist; there is m", "invalid_request_error", None, "model_not_found"),
        ),
        (429, {"detail": "too many"}, ("too many", "rate_limit_error", None, "rate_limit_exceeded")),
        (400, {"detail": {"error": "bad"}}, ("bad", "invalid_request_error", None, None)),
        (422, {"detail": [{"loc": ["body"]}]}, ('[{"loc": ["body"]}]', "invalid_request_error", None, None)),
        (400, {"error": {"message": "m", "code": "of_its_own"}}, ("m", "invalid_request_error", None, "of_its_own")),
        (500, b"Internal Server Error", ("Internal Server Error", "server_error", None, None)),
        (503, {"type": "error", "error": {"type": "api_error", "message": "loading"}}, ("loading", "service_unavailable_error", None, None)),
        (404, b"", ("there is no such address", "invalid_request_error", None, None)),
        (418, b"{}", ("the request failed", "invalid_request_error", None, None)),
        (400, b"[1]", ("[1]", "invalid_request_error", None, None)),
        (400, b"\xff", ("�", "invalid_request_error", None, None)),
    ],
)  # fmt: skip
def test_openai(status: int, body: Any, error: tuple[Any, ...]) -> None:
    assert tuple(openai(status, body).values()) == error


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, "invalid_request_error"),
        (401, "authentication_error"),
        (403, "permission_error"),
        (404, "not_found_error"),
        (405, "invalid_request_error"),
        (413, "request_too_large"),
        (429, "rate_limit_error"),
        (500, "api_error"),
        (503, "overloaded_error"),
    ],
)
def test_anthropic(status: int, kind: str) -> None:
    for body in ({"error": {"message": "why", "type": "x", "code": "400"}}, {"detail": "why"}):
        made = json.loads(api_errors.shaped("anthropic", status, json.dumps(body).encode()))
        assert made == {"type": "error", "error": {"type": kind, "message": "why"}}

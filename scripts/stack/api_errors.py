"""Errors in the shape of the API that a request speaks. Pure.

Sources: OpenAI's API reference, "Error codes"; Anthropic's API reference, "Errors".
"""

from __future__ import annotations

import json
import re

_ANTHROPIC = "/v1/messages"
# The APIs that clients speak; management routes (/key, /user, ...) and pages are LiteLLM's own affair.
_OPENAI = re.compile(r"^/(v1/.*|chat/completions|completions|embeddings|responses|models)$")

_OPENAI_TYPES = {429: "rate_limit_error", 503: "service_unavailable_error"}
_OPENAI_CODES = {401: "invalid_api_key", 429: "rate_limit_exceeded"}
_ANTHROPIC_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
    529: "overloaded_error",
}
# A code that clients look for, by what vLLM and LiteLLM say.
_CODES = (
    (400, "context_length_exceeded", re.compile(r"maximum context length|Context Window exceeded", re.IGNORECASE)),
    (404, "model_not_found", re.compile(r"the model .* does not exist", re.IGNORECASE)),
)


def speaks(path: str) -> str:
    """Which API's errors a path has: `anthropic`, `openai`, or none of ours (empty)."""
    if path == _ANTHROPIC or path.startswith(_ANTHROPIC + "/"):
        return "anthropic"
    return "openai" if _OPENAI.match(path) else ""


def shaped(api: str, status: int, body: bytes) -> bytes:
    """An error as the API has it, whatever shape it came in.

    Args:
        api: from `speaks`.
        status: HTTP status, 400 to 599.
        body: what LiteLLM, FastAPI or vLLM said.
    """
    message, param, code = _read(status, body)
    if api == "anthropic":
        kind = _ANTHROPIC_TYPES.get(status, "invalid_request_error" if status < 500 else "api_error")
        return json.dumps({"type": "error", "error": {"type": kind, "message": message}}).encode()
    kind = _OPENAI_TYPES.get(status, "invalid_request_error" if status < 500 else "server_error")
    code = code or _OPENAI_CODES.get(status)
    return json.dumps({"error": {"message": message, "type": kind, "param": param, "code": code}}).encode()


def _read(status: int, body: bytes) -> tuple[str, str | None, str | None]:
    """Message, parameter and code."""
    text = body.decode(errors="replace").strip()
    try:
        found = json.loads(text)
    except ValueError:
        found = text
    for name in ("error", "detail", "error"):  # FastAPI's `detail` may have an `error` in it
        if isinstance(found, dict) and name in found:
            found = found[name]
    param = code = None
    message = found
    if isinstance(found, dict):
        message, param, code = found.get("message"), found.get("param"), found.get("code")
    if not isinstance(message, str):
        message = json.dumps(message) if message else _PHRASES.get(status, "the request failed")
    message = message.strip() or _PHRASES.get(status, "the request failed")
    code = next((name for at, name, words in _CODES if status == at and words.search(message)), code)
    if not isinstance(code, str) or code.isdigit():  # LiteLLM and vLLM put the status there
        code = None
    # LiteLLM says "key" of the header, and "None".
    return message, param if isinstance(param, str) and param != "None" and status != 401 else None, code


_PHRASES = {404: "there is no such address", 405: "this address does not take that method", 500: "internal server error"}

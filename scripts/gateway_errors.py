"""What clients are told while the engine loads, drains or is gone: 503, Retry-After and the phase, as a LiteLLM callback.

LiteLLM itself answers 500 with the address it could not reach. The callback is asked only about requests that have
failed; loaded by `callbacks:` in litellm_config.template.yaml. LiteLLM's documentation: "Transform error responses".
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

import httpx
from fastapi import HTTPException
from litellm.integrations.custom_logger import CustomLogger
from litellm.proxy._types import ProxyException

import gateway_refusals
from stack import engine_phase

UNAVAILABLE = 503
# The connection could not be made or broke off. A connection that is slow to answer (ReadTimeout) is not among them.
_NO_CONNECTION = (httpx.NetworkError, httpx.RemoteProtocolError, httpx.ConnectTimeout)
# vLLM 0.32's own words, with status 500, when its core has died and while it drains.
_LAST_WORDS = ("EngineCore encountered an issue", "cannot schedule new futures after shutdown", "Server shutting down")
# The stream a request is answered with, whose first piece is still awaited: /v1/completions only connects then.
_stream: ContextVar[Any] = ContextVar("stream", default=None)


class EngineAway(CustomLogger):  # type: ignore[misc]
    """Replaces the error of requests that failed because the engine was not there, and those that mislead."""

    async def async_post_call_response_headers_hook(
        self, data: dict[str, Any], user_api_key_dict: Any, response: Any, **_: Any
    ) -> dict[str, str] | None:
        """Adds no header yet; remembers the stream, whose headers are made again if its first piece is an error."""
        if data.get("stream"):
            _stream.set(response)
        return None

    async def async_post_call_failure_hook(
        self,
        request_data: dict[str, Any],
        original_exception: Exception,
        user_api_key_dict: Any,
        traceback_str: str | None = None,
    ) -> HTTPException | None:
        """The error the client gets instead; None leaves it as it is."""
        phase = engine_phase.current()
        changed: ProxyException | None
        if is_away(original_exception, phase, passed_through="passthrough_logging_payload" in request_data):
            changed = unavailable(phase)
        else:
            changed = gateway_refusals.better(original_exception, request_data, user_api_key_dict)
        if changed is None:
            return None
        message, headers, status = changed.message, dict(changed.headers), int(changed.code)
        _change(original_exception, changed, headers)
        if str(getattr(user_api_key_dict, "request_route", "")).startswith("/v1/messages"):
            return None  # LiteLLM would end a stream that has begun without a word
        return HTTPException(status, message, dict(headers))


def is_away(error: BaseException, phase: engine_phase.Phase, passed_through: bool = False) -> bool:
    """Whether a request failed because the engine loads, drains, or is gone.

    Args:
        error: what LiteLLM raised.
        phase: what the engine said last.
        passed_through: LiteLLM was passing the request on as it was, and there an error does not say where it is from.
    """
    if not passed_through and not getattr(error, "llm_provider", ""):
        return False  # not from the engine: the key, a limit, the database (whose client speaks HTTP as well)
    if any(isinstance(cause, _NO_CONNECTION) for cause in _causes(error)):
        return True
    return says_away(int(getattr(error, "status_code", 0) or 0), str(error), phase)


def says_away(status: int, text: str, phase: engine_phase.Phase) -> bool:
    """Whether an answer of the engine says that it ends."""
    if status < 500:
        return False
    ending = phase.name in (engine_phase.STOPPING, engine_phase.DEAD)
    return ending or any(words in text for words in _LAST_WORDS)


def unavailable(phase: engine_phase.Phase) -> ProxyException:
    """What a client is told that got no answer from the engine."""
    headers = {"Retry-After": str(phase.retry_after)}
    return ProxyException(phase.sentence(time.time()), "service_unavailable_error", None, UNAVAILABLE, headers)


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        yield cause
        cause = cause.__cause__ or cause.__context__


def _change(error: Exception, changed: ProxyException, headers: dict[str, str]) -> None:
    """Make the error itself the answer.

    LiteLLM 1.108 ignores what the hook returns on /v1/messages and once a stream has begun, and goes on with the error
    it has. Of errors, it gives only a ProxyException's headers to the client.
    """
    error.args = changed.args
    vars(error).update(vars(changed), status_code=int(changed.code))
    with contextlib.suppress(TypeError):  # an exception of another layout: only the header is missing then
        error.__class__ = ProxyException
    stream = _stream.get()
    with contextlib.suppress(AttributeError):
        hidden = dict(getattr(stream, "_hidden_params", None) or {})
        hidden["additional_headers"] = {**(hidden.get("additional_headers") or {}), **headers}
        stream._hidden_params, stream.fallback_headers_adopted = hidden, True


engine_away = EngineAway()

"""The usage records of requests that were passed through, as a LiteLLM callback: the engine's own count of tokens."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Any

import httpx
import litellm
from litellm.integrations.custom_logger import CustomLogger

import gateway_requests
from stack import pass_through
from stack.pass_through import Events

# LiteLLM's record of the request that is under way, for the usage that only the stream's end tells.
_record: ContextVar[Any] = ContextVar("record", default=None)
# Who asked, for the record of a request that is refused: LiteLLM keeps that of answered ones only.
_client: ContextVar[dict[str, Any] | None] = ContextVar("client", default=None)
_COUNTED, _ID = "engine_usage", "request_id"


class EngineUsage(CustomLogger):  # type: ignore[misc]
    """Keeps the records of requests that were passed through."""

    async def async_pre_call_hook(
        self, user_api_key_dict: Any, cache: Any, data: dict[str, Any], call_type: str
    ) -> dict[str, Any]:
        """Changes nothing; remembers LiteLLM's record of the request."""
        if call_type == "pass_through_endpoint":
            record = data.get("litellm_logging_obj")
            _record.set(record)
            if record is not None:
                record.model_call_details[_ID] = gateway_requests.current_id()
        return data

    async def async_post_call_failure_hook(
        self,
        request_data: dict[str, Any],
        original_exception: Exception,
        user_api_key_dict: Any,
        traceback_str: str | None = None,
    ) -> None:
        """Have each failed request kept, with who asked.

        LiteLLM 1.108 gives a request that is refused before it is passed on (429) no id: its row bears the word None, and of
        rows with the same id the database takes the first one only.
        """
        client = _client.get()
        if client is not None:
            request_data["litellm_call_id"] = request_data.get("litellm_call_id") or gateway_requests.current_id()
            request_data["metadata"] = {**(request_data.get("metadata") or {}), **client}

    async def async_logging_hook(self, kwargs: dict[str, Any], result: Any, call_type: str) -> tuple[dict[str, Any], Any]:
        """Put the engine's own count where LiteLLM's spend rows, budgets and metrics look for it."""
        passed = kwargs.get("passthrough_logging_payload")
        if call_type != "pass_through_endpoint" or not passed:
            return kwargs, result
        usage = pass_through.usage_of(passed.get("response_body"))
        if _COUNTED in kwargs:
            usage = kwargs[_COUNTED]["usage"]
            if not kwargs[_COUNTED]["complete"]:
                read = usage.get("prompt_tokens") or await _asked(kwargs[_COUNTED]["prompt"])
                read = read or await asyncio.to_thread(_estimate, passed.get("request_body") or {})
                wrote = max(kwargs[_COUNTED]["events"], usage.get("completion_tokens", 0))
                usage = {"prompt_tokens": read, "completion_tokens": wrote, "total_tokens": read + wrote}
        answer = {"id": kwargs.get(_ID) or kwargs.get("litellm_call_id"), "model": kwargs.get("model"), "usage": usage}
        payload = kwargs.get("standard_logging_object")
        if payload is not None:
            names = ("prompt_tokens", "completion_tokens", "total_tokens")
            payload.update({name: usage.get(name, 0) for name in names})
        kwargs["combined_usage_object"] = litellm.Usage(**usage)  # where the counter of tokens a minute looks
        if kwargs.get("stream"):
            kwargs["async_complete_streaming_response"] = answer
        return kwargs, answer


def asks(client: dict[str, Any]) -> None:
    """Note who makes the request under way: what its record says of them."""
    _client.set(client)


def current_record() -> Any:
    """LiteLLM's record of the request under way, or None."""
    return _record.get()


def counted(record: Any, events: Events, complete: bool, prompt: Callable[[], Awaitable[int]]) -> None:
    """Put into a record what a stream said, once it has ended.

    Args:
        record: from `current_record`.
        events: what was read from the stream.
        complete: whether it came to its own end.
        prompt: asks the engine how many tokens the prompt has; for a stream that ended before it said so.
    """
    if record is not None:
        told = {"usage": events.usage, "events": events.seen, "complete": complete, "prompt": prompt}
        record.model_call_details[_COUNTED] = told


engine_usage = EngineUsage()


async def _asked(prompt: Callable[[], Awaitable[int]]) -> int:
    """The prompt's tokens by the engine's own tokenizer and template; 0 if it does not say."""
    try:
        return await prompt()
    except (httpx.HTTPError, ValueError, KeyError, TypeError):
        return 0


def _estimate(body: dict[str, Any]) -> int:
    """The prompt's tokens, as LiteLLM estimates them."""
    if body.get("messages"):
        return int(litellm.token_counter(model="", messages=body["messages"], use_default_image_token_count=True))
    asked = body.get("prompt") or body.get("input")
    return int(litellm.token_counter(model="", text=asked if isinstance(asked, str) else json.dumps(asked)))

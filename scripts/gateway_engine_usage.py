"""The usage records of requests that were passed through, as a LiteLLM callback: the engine's own count of tokens."""

from __future__ import annotations

import asyncio
import json
from contextvars import ContextVar
from typing import Any

import litellm
from litellm.integrations.custom_logger import CustomLogger

from stack import pass_through
from stack.pass_through import Events

# LiteLLM's record of the request that is under way, for the usage that only the stream's end tells.
_record: ContextVar[Any] = ContextVar("record", default=None)
_COUNTED = "engine_usage"


class EngineUsage(CustomLogger):  # type: ignore[misc]
    """Keeps the records of requests that were passed through."""

    async def async_pre_call_hook(
        self, user_api_key_dict: Any, cache: Any, data: dict[str, Any], call_type: str
    ) -> dict[str, Any]:
        """Changes nothing; remembers LiteLLM's record of the request."""
        if call_type == "pass_through_endpoint":
            _record.set(data.get("litellm_logging_obj"))
        return data

    async def async_logging_hook(self, kwargs: dict[str, Any], result: Any, call_type: str) -> tuple[dict[str, Any], Any]:
        """Put the engine's own count where LiteLLM's spend rows, budgets and metrics look for it."""
        passed = kwargs.get("passthrough_logging_payload")
        if call_type != "pass_through_endpoint" or not passed:
            return kwargs, result
        usage = pass_through.usage_of(passed.get("response_body"))
        if _COUNTED in kwargs:
            usage = kwargs[_COUNTED]["usage"]
            if not kwargs[_COUNTED]["complete"]:
                request = passed.get("request_body") or {}
                usage = await asyncio.to_thread(_estimate, request, kwargs[_COUNTED]["events"], usage)
        answer = {"id": kwargs.get("litellm_call_id"), "model": kwargs.get("model"), "usage": usage}
        payload = kwargs.get("standard_logging_object")
        if payload is not None:
            names = ("prompt_tokens", "completion_tokens", "total_tokens")
            payload.update({name: usage.get(name, 0) for name in names})
        kwargs["combined_usage_object"] = litellm.Usage(**usage)  # where the counter of tokens a minute looks
        if kwargs.get("stream"):
            kwargs["async_complete_streaming_response"] = answer
        return kwargs, answer


def current_record() -> Any:
    """LiteLLM's record of the request under way, or None."""
    return _record.get()


def counted(record: Any, events: Events, complete: bool) -> None:
    """Put into a record what a stream said, once it has ended.

    Args:
        record: from `current_record`.
        events: what was read from the stream.
        complete: whether it came to its own end.
    """
    if record is not None:
        record.model_call_details[_COUNTED] = {"usage": events.usage, "events": events.seen, "complete": complete}


engine_usage = EngineUsage()


def _estimate(body: dict[str, Any], events: int, told: dict[str, int]) -> dict[str, int]:
    """The count of a stream that was broken off before the engine told it; LiteLLM estimates such prompts too."""
    read = told.get("prompt_tokens", 0)
    if not read:
        if body.get("messages"):
            read = litellm.token_counter(model="", messages=body["messages"], use_default_image_token_count=True)
        else:
            asked = body.get("prompt") or body.get("input")
            read = litellm.token_counter(model="", text=asked if isinstance(asked, str) else json.dumps(asked))
    wrote = max(events, told.get("completion_tokens", 0))
    return {"prompt_tokens": read, "completion_tokens": wrote, "total_tokens": read + wrote}

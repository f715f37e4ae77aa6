"""Refusals that LiteLLM words or numbers misleadingly, said better. Used by gateway_errors.py."""

from __future__ import annotations

import re
from typing import Any

from litellm.proxy._types import ProxyException

import gateway_models

# Seconds after which asking again makes sense where one of the requests under way has to end first.
_SOON = "1"


def better(error: Exception, request: dict[str, Any], key: Any) -> ProxyException | None:
    """What the client is told instead; None where LiteLLM's own answer is right.

    Args:
        error: what LiteLLM raised.
        request: the request's body.
        key: who asked, LiteLLM's UserAPIKeyAuth.
    """
    status = _status(error)
    if status == 429 and "parallel" in str((getattr(error, "headers", None) or {}).get("rate_limit_type", "")):
        return _too_many(error)
    model = request.get("model")
    served = gateway_models.entries(model)
    if status == 400 and not served and "model" in str(error):
        return unknown_model(model, key)
    if status == 403 and "response id" in str(error):
        return _nothing_kept()
    if status == 404 and served and "Not Found" in str(error):
        return _no_such_route(str(model), served[0], str(getattr(key, "request_route", "") or ""))
    return None


def unknown_model(model: Any, key: Any) -> ProxyException:
    """404, or 400 if the request names none; with the names there are for this key."""
    there = ", ".join(gateway_models.names(key)) or "none"
    if not model:
        message = f"the request names no model; there is {there}"
        return ProxyException(message, "invalid_request_error", "model", 400, {})
    message = f"the model `{str(model)[:200]}` does not exist; there is {there}"
    return ProxyException(message, "invalid_request_error", "model", 404, {})


def _too_many(error: Exception) -> ProxyException:
    # LiteLLM's text ends in "Limit resets at: " and a time a minute from now, which is not so.
    limit = re.search(r"Current limit: (\d+)", str(getattr(error, "detail", error)))
    who = {"api_key": "this key"}.get(str(getattr(error, "descriptor_key", "")), "this client")
    most = f"{limit[1]} requests" if limit else "no more requests"
    message = f"{who} may have {most} under way at once (max_parallel_requests); one of them has to end first"
    return ProxyException(message, "rate_limit_error", None, 429, {"Retry-After": _SOON})


def _nothing_kept() -> ProxyException:
    message = "previous_response_id: answers are not kept; send the whole conversation as `input`"
    return ProxyException(message, "invalid_request_error", "previous_response_id", 400, {})


def _no_such_route(model: str, served: dict[str, Any], route: str) -> ProxyException:
    does = "embeds text" if (served.get("model_info") or {}).get("mode") == "embedding" else "generates text"
    message = f"the model `{model}` {does}; it does not answer on {route or 'this address'}"
    return ProxyException(message, "invalid_request_error", "model", 400, {})


def _status(error: Exception) -> int:
    for name in ("status_code", "code"):
        text = str(getattr(error, name, ""))
        if text.isdigit():
            return int(text)
    return 0

"""The models that the gateway serves, as LiteLLM's router has them."""

from __future__ import annotations

from typing import Any

from litellm.proxy import proxy_server

from stack import pass_through


def entries(model: Any) -> list[dict[str, Any]]:
    """The deployments that serve a model by this name; those of the exact name before those of a pattern."""
    served = [one for one in _all() if pass_through.serves(one["model_name"], model)]
    return [one for one in served if one["model_name"] == model] or served


def proper(model: Any) -> Any:
    """The name by which the engine knows a model, which is one of the gateway's too; an unknown one stays as it is."""
    served = entries(model)
    name = str(served[0]["litellm_params"]["model"]).partition("/")[2] if served else ""
    return name if any(one["model_name"] == name for one in _all()) else model


def names(key: Any) -> list[str]:
    """The names a key may ask for, without patterns."""
    there = dict.fromkeys(one["model_name"] for one in _all())
    allowed = set(getattr(key, "models", None) or ()) & there.keys()
    # A list without any of them, such as that of a group, is LiteLLM's to read: then all are named.
    return [name for name in there if "*" not in name and (name in allowed or not allowed)]


def _all() -> list[dict[str, Any]]:
    router = proxy_server.llm_router
    return list(router.model_list) if router else []

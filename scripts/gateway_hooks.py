"""What the gateway's configuration alone cannot say, as a LiteLLM callback. It renames and names; it decides nothing.

LiteLLM's /v1/responses keeps only OpenAI's own parameters and drops the sampling values of the engine that a request
gives (top_k, repetition_penalty, ...), which its other three routes pass on. Under `extra_body` they get through.
Loaded by `callbacks:` in litellm_config.template.yaml; LiteLLM's documentation: "Call hooks".
"""

from __future__ import annotations

from typing import Any

from litellm.integrations.custom_logger import CustomLogger

import gateway_models
import gateway_requests

# What vLLM 0.32's /v1/responses takes (ResponsesRequest) and LiteLLM's does not know.
_NAMES = """
    top_k min_p repetition_penalty frequency_penalty presence_penalty logit_bias seed stop stop_token_ids ignore_eos
    priority chat_template_kwargs structured_outputs include_reasoning include_stop_str_in_output skip_special_tokens
    cache_salt vllm_xargs
"""
ENGINE_VALUES = tuple(_NAMES.split())


class RequestValues(CustomLogger):  # type: ignore[misc]
    """Keeps a request's own sampling values on /v1/responses, the model's proper name in usage records, the request's id."""

    async def async_pre_call_hook(
        self, user_api_key_dict: Any, cache: Any, data: dict[str, Any], call_type: str
    ) -> dict[str, Any]:
        """Move the engine's sampling values of a responses request under `extra_body`; name model and request."""
        if data.get("model"):
            data["model"] = gateway_models.proper(data["model"])
        told = gateway_requests.current_id()
        if call_type == "aresponses":
            given = {name: data.pop(name) for name in ENGINE_VALUES if name in data}
            given |= _dict(data.get("extra_body")) | ({"request_id": gateway_requests.response_id()} if told else {})
            if given:
                data["extra_body"] = given
        if told and call_type != "pass_through_endpoint":
            others = _dict(data.get("extra_headers")).items()
            kept = {name: value for name, value in others if str(name).lower() != gateway_requests.HEADER}
            data["extra_headers"] = {**kept, gateway_requests.HEADER: told}
        return data


def _dict(given: Any) -> dict[str, Any]:
    return given if isinstance(given, dict) else {}


request_values = RequestValues()

"""Which requests the engine gets as they are, what is added to them, and what is read from its streams. Pure."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

# The engine's routes that the gateway passes through, and by what name each limits the length of an answer.
LIMITS = {
    "/v1/chat/completions": ("max_completion_tokens", "max_tokens"),
    "/v1/completions": ("max_tokens",),
    "/v1/messages": ("max_tokens",),
    "/v1/responses": ("max_output_tokens",),
}
# What only LiteLLM understands although it is not on its own list.
_OF_LITELLM = {"timeout", "extra_body", "extra_headers", "extra_query", "drop_params", "additional_drop_params"}
# What /v1/responses asks of a server that keeps answers: the engine keeps none, LiteLLM has ways around it.
_OF_A_STORE = ("previous_response_id", "conversation", "background")
# Values that the engine takes on its other routes; its /v1/messages leaves out what is not in Anthropic's API.
_OTHER_ROUTES = """
    min_p repetition_penalty frequency_penalty presence_penalty logit_bias seed stop stop_token_ids ignore_eos min_tokens
    priority n logprobs top_logprobs response_format structured_outputs chat_template_kwargs include_reasoning
    reasoning_effort skip_special_tokens include_stop_str_in_output max_completion_tokens parallel_tool_calls
"""
_NOT_ANTHROPICS = frozenset(_OTHER_ROUTES.split())
# What LiteLLM itself reads in a request's `metadata`; any other is the client's own and only kept.
_METADATA = {
    "tags",
    "spend_logs_metadata",
    "guardrails",
    "session_id",
    "trace_id",
    "trace_name",
    "trace_user_id",
    "model_info",
}
# Of a request, what its prompt is made of beside what it says.
_PROMPT = {
    "model",
    "tools",
    "chat_template",
    "chat_template_kwargs",
    "add_special_tokens",
    "add_generation_prompt",
    "continue_final_message",
}
# Of a deployment's parameters, those that say how to reach the engine, not what a request gets.
_CONNECTION = {"model", "api_base", "api_key", "timeout", "num_retries", "max_tokens", "max_output_tokens"}
_PROVIDER = "hosted_vllm/"


@dataclass(frozen=True)
class Target:
    """An engine, as the gateway's configuration describes it.

    Attributes:
        base: its address, without a path.
        model: the model's name there.
        key: its key.
        timeout: seconds until a request is given up; None is LiteLLM's own default.
        defaults: parameters a request gets when it does not give them itself.
        limit: the same for the length of an answer in tokens; None is the engine's own.
        reasons: whether the engine tells reasoning from answers.
    """

    base: str
    model: str
    key: str
    timeout: float | None
    defaults: Mapping[str, Any]
    limit: int | None
    reasons: bool = False


def target(params: Mapping[str, Any], info: Mapping[str, Any], is_litellms: Callable[[str], bool]) -> Target | None:
    """The engine behind a deployment; None if its requests need what LiteLLM does on the way.

    Args:
        params: its `litellm_params`, with secrets resolved.
        info: its `model_info`.
        is_litellms: whether a parameter is LiteLLM's own.
    """
    base = str(params.get("api_base") or "")
    plain = str(params.get("model", "")).startswith(_PROVIDER) and base.endswith("/v1") and info.get("mode") == "chat"
    if not plain or params.get("num_retries") or _OF_LITELLM & {name for name in params if name != "timeout"}:
        return None
    if any("cost" in name for name in params):  # LiteLLM works out what each request costs on its ordinary way
        return None
    given = {name: value for name, value in params.items() if value is not None and name not in _CONNECTION}
    return Target(
        base.removesuffix("/v1"),
        str(params["model"]).removeprefix(_PROVIDER),
        str(params.get("api_key") or ""),
        params.get("timeout"),
        {name: value for name, value in given.items() if not is_litellms(name)},
        params.get("max_tokens"),
        bool(info.get("supports_reasoning")),
    )


def serves(served: str, asked: object) -> bool:
    """Whether a deployment's name, which may end in `*`, is the one that is asked for."""
    return served == asked or (served.endswith("*") and str(asked).startswith(served[:-1]))


def passes(route: str, body: Mapping[str, Any], is_litellms: Callable[[str], bool]) -> bool:
    """Whether a request asks for nothing that only LiteLLM can do.

    Args:
        route: one of LIMITS.
        body: the request.
        is_litellms: whether a parameter is LiteLLM's own.
    """
    if route == "/v1/messages" and not (_NOT_ANTHROPICS.isdisjoint(body) and _is_known_to_the_engine(body)):
        return False
    if not isinstance(body.get("stream_options") or {}, Mapping):
        return False
    metadata = body.get("metadata") or {}
    if not isinstance(metadata, Mapping) or not _METADATA.isdisjoint(metadata):
        return False
    return not any(
        name in _OF_LITELLM or (name in _OF_A_STORE and body[name]) or (name != "metadata" and is_litellms(name))
        for name in body
    )


def _is_known_to_the_engine(body: Mapping[str, Any]) -> bool:
    """Whether vLLM 0.32 reads all of an Anthropic request: neither tools that Anthropic runs itself nor documents."""
    tools, messages = body.get("tools") or (), body.get("messages") or ()
    kinds = {tool.get("type") or "custom" for tool in tools if isinstance(tool, Mapping)}
    contents = (message.get("content") for message in messages if isinstance(message, Mapping))
    parts = (part for content in contents if isinstance(content, list) for part in content)
    return kinds <= {"custom"} and not any(isinstance(part, Mapping) and part.get("type") == "document" for part in parts)


def complete(route: str, body: Mapping[str, Any], to: Target) -> dict[str, Any]:
    """The request as the engine gets it: with the deployment's defaults, and told to count a stream's tokens."""
    names = LIMITS[route]
    made = {**to.defaults, **body, "model": to.model}
    if to.limit is not None and all(body.get(name) is None for name in names):
        made[names[-1]] = to.limit
    thinking = body.get("thinking")
    if route == "/v1/messages" and not to.reasons and isinstance(thinking, Mapping) and thinking.get("type") == "enabled":
        del made["thinking"]  # vLLM refuses a budget for what the model does not do
    if counts_on_demand(route) and body.get("stream"):
        made["stream_options"] = {**(body.get("stream_options") or {}), "include_usage": True}
    return made


def prompt(route: str, body: Mapping[str, Any]) -> dict[str, Any] | None:
    """What to ask the engine's /tokenize for the length of a request's prompt; None where only a request itself would tell.

    /v1/messages tells it at a stream's beginning.
    """
    asked = {name: body[name] for name in _PROMPT if name in body}
    if route == "/v1/chat/completions" and body.get("messages"):
        return {**asked, "messages": body["messages"]}
    if route == "/v1/completions" and isinstance(body.get("prompt"), str):
        return {**asked, "prompt": body["prompt"]}
    if route == "/v1/responses" and isinstance(body.get("input"), str):
        system = [{"role": "system", "content": body["instructions"]}] if body.get("instructions") else []
        return {**asked, "messages": [*system, {"role": "user", "content": body["input"]}]}
    return None


def counts_on_demand(route: str) -> bool:
    """Whether the engine reports a stream's tokens on this route only when asked."""
    return route in ("/v1/chat/completions", "/v1/completions")


# What an event of each route has in it if it carries a piece of the answer; vLLM 0.32 sends a piece for each token, unless
# it makes them faster than they are taken. A chat's first event has no piece, but says whose the answer is.
_PIECES = {"/v1/messages": b"event: content_block_delta\n", "/v1/responses": b".delta\ndata: "}
_CHOICE, _ROLE = b'"choices":[{', b'"role":"assistant"'
# How an event begins by which vLLM ends a stream that it cannot go on with.
_ERRORS = (b'data: {"error":', b"event: error\n")


class Events:
    """Looks at a stream of server-sent events as it goes by.

    Attributes:
        seen: how many pieces of the answer went by.
        error: the event by which the engine said that it gives up; empty if it did not.
    """

    def __init__(self, route: str, hide_usage: bool) -> None:
        """Begin.

        Args:
            route: one of LIMITS.
            hide_usage: leave the event out that only carries the count, which the client did not ask for.
        """
        self._hide, self._rest, self._counted = hide_usage, b"", b""
        self._piece, self._no_piece = _PIECES.get(route, _CHOICE), None if route in _PIECES else _ROLE
        self.seen = 0
        self.error = ""

    def take(self, piece: bytes) -> bytes:
        """Whole events of what has arrived, as they are to go on; the beginning of the next one is kept back."""
        whole, end, self._rest = (self._rest + piece).rpartition(b"\n\n")
        piece = whole + end
        self.seen += piece.count(self._piece) - (piece.count(self._no_piece) if self._no_piece else 0)
        if not self.error and (piece.startswith(_ERRORS) or any(b"\n\n" + error in piece for error in _ERRORS)):
            self.error = next(event for event in piece.split(b"\n\n") if event.startswith(_ERRORS)).decode(errors="replace")
        # Inside a JSON text these quotes would be escaped: only the engine itself can have written them.
        if b'"usage":{' in piece:
            self._counted = piece
            if self._hide and b'"choices":[]' in piece:
                events = piece.split(b"\n\n")
                piece = b"\n\n".join(event for event in events if not (b'"choices":[]' in event and b'"usage":{' in event))
        return piece

    def rest(self) -> bytes:
        """What is left when the stream has ended."""
        return self._rest

    @property
    def usage(self) -> dict[str, int]:
        """What the engine counted, as it said it last; empty until then."""
        for event in reversed(self._counted.split(b"\n\n")):
            found = usage_of(_json(event.partition(b"data: ")[2]))
            if found:
                return found
        return {}


def usage_of(body: Any) -> dict[str, int]:
    """The engine's count in an answer or event, by OpenAI's names; empty if there is none."""
    if not isinstance(body, dict):
        return {}
    nested = body.get("response") or body.get("message")  # /v1/responses and the first event of /v1/messages
    usage = body.get("usage") or (nested.get("usage") if isinstance(nested, dict) else None)
    if not isinstance(usage, dict):
        return {}
    # Anthropic counts what was read from the cache beside the input, OpenAI within it.
    cached = sum(int(usage.get(name) or 0) for name in ("cache_read_input_tokens", "cache_creation_input_tokens"))
    read = int(usage.get("prompt_tokens", usage.get("input_tokens")) or 0) + cached
    wrote = int(usage.get("completion_tokens", usage.get("output_tokens")) or 0)
    return {"prompt_tokens": read, "completion_tokens": wrote, "total_tokens": read + wrote}


def _json(text: bytes) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None


def broken(route: str, message: str) -> bytes:
    """The event that ends a stream which broke off, in the shape of the route's API."""
    error = {"message": message, "type": "service_unavailable_error", "param": None, "code": "503"}
    if route == "/v1/messages":
        value: dict[str, Any] = {"type": "error", "error": {"type": "overloaded_error", "message": message}}
        return b"event: error\ndata: " + json.dumps(value).encode() + b"\n\n"
    if route == "/v1/responses":
        value = {"type": "error", "code": "503", "message": message, "param": None, "error": error}
        return b"event: error\ndata: " + json.dumps(value).encode() + b"\n\n"
    return b"data: " + json.dumps({"error": error}).encode() + b"\n\n"

"""Which requests reach the engine as they are, what they get, and what is read from streams."""

from __future__ import annotations

import json
from typing import Any

import pytest

from stack import pass_through
from stack.pass_through import Events, Target

LITELLMS = {"api_base", "api_key", "num_retries", "fallbacks", "metadata", "tags", "cache", "model_info"}
PARAMS: dict[str, Any] = {
    "model": "hosted_vllm/vllm_agent",
    "api_base": "http://127.0.0.1:8000/v1",
    "api_key": "secret",
    "timeout": 600.0,
    "num_retries": 0,
    "temperature": 0.7,
    "top_k": 50,
    "max_tokens": 1000,
    "max_output_tokens": 1000,
    "tags": ["a"],
}
ENGINE = Target("http://127.0.0.1:8000", "vllm_agent", "secret", 600.0, {"temperature": 0.7, "top_k": 50}, 1000)


def is_litellms(name: str) -> bool:
    return name in LITELLMS


def test_the_engine_of_a_deployment() -> None:
    assert pass_through.target(PARAMS, {"mode": "chat"}, is_litellms) == ENGINE


@pytest.mark.parametrize(
    ("changed", "mode"),
    [
        ({"model": "openai/gpt"}, "chat"),
        ({"api_base": "http://other"}, "chat"),
        ({"num_retries": 2}, "chat"),
        ({"extra_body": {"seed": 1}}, "chat"),
        ({"input_cost_per_token": 1e-6}, "chat"),
        ({}, "embedding"),
    ],
)
def test_a_deployment_that_needs_litellm(changed: dict[str, Any], mode: str) -> None:
    assert pass_through.target({**PARAMS, **changed}, {"mode": mode}, is_litellms) is None


@pytest.mark.parametrize(
    ("route", "body"),
    [
        ("/v1/chat/completions", {"messages": [], "metadata": {"a": "b"}, "tools": [], "stream_options": None}),
        ("/v1/completions", {"prompt": "x", "repetition_penalty": 1.2, "ignore_eos": True}),
        ("/v1/messages", {"messages": [], "thinking": {"type": "disabled"}, "top_k": 3}),
        ("/v1/responses", {"input": "x", "store": True, "previous_response_id": None}),
    ],
)
def test_plain_requests_pass(route: str, body: dict[str, Any]) -> None:
    assert pass_through.passes(route, {"model": "m", **body}, is_litellms)


@pytest.mark.parametrize(
    ("route", "body"),
    [
        ("/v1/chat/completions", {"fallbacks": ["other"]}),
        ("/v1/chat/completions", {"timeout": 3}),
        ("/v1/chat/completions", {"extra_body": {}}),
        ("/v1/chat/completions", {"stream_options": "yes"}),
        ("/v1/chat/completions", {"metadata": {"tags": ["a"]}}),
        ("/v1/chat/completions", {"metadata": "text"}),
        ("/v1/messages", {"repetition_penalty": 1.2}),
        ("/v1/messages", {"tools": [{"name": "a"}, {"type": "web_search_20250305", "name": "web_search"}]}),
        ("/v1/messages", {"messages": [{"role": "user", "content": [{"type": "document"}]}]}),
        ("/v1/responses", {"previous_response_id": "resp_1"}),
        ("/v1/responses", {"background": True}),
    ],
)
def test_requests_that_need_litellm(route: str, body: dict[str, Any]) -> None:
    assert not pass_through.passes(route, {"model": "m", **body}, is_litellms)


@pytest.mark.parametrize(
    ("route", "body", "added"),
    [
        ("/v1/chat/completions", {}, {"max_tokens": 1000}),
        ("/v1/chat/completions", {"max_completion_tokens": 5}, {}),
        ("/v1/chat/completions", {"max_tokens": None}, {"max_tokens": 1000}),
        ("/v1/chat/completions", {"stream": True}, {"max_tokens": 1000, "stream_options": {"include_usage": True}}),
        (
            "/v1/completions",
            {"stream": True, "max_tokens": 1, "stream_options": {"continuous_usage_stats": True}},
            {"stream_options": {"continuous_usage_stats": True, "include_usage": True}},
        ),
        ("/v1/messages", {"stream": True, "max_tokens": 7}, {}),
        ("/v1/responses", {"stream": True}, {"max_output_tokens": 1000}),
    ],
)
def test_defaults_are_added_and_the_request_wins(route: str, body: dict[str, Any], added: dict[str, Any]) -> None:
    body = {"model": "claude-x", "top_k": 1, **body}
    assert pass_through.complete(route, body, ENGINE) == {"temperature": 0.7, **body, "model": "vllm_agent", **added}


@pytest.mark.parametrize(
    ("thinking", "reasons", "kept"),
    [
        ({"type": "enabled", "budget_tokens": 9}, True, True),
        ({"type": "enabled", "budget_tokens": 9}, False, False),
        ({"type": "adaptive"}, False, True),
        ("yes", False, True),
    ],
)
def test_thinking_is_asked_only_of_a_model_that_does(thinking: Any, reasons: bool, kept: bool) -> None:
    to = pass_through.target(PARAMS, {"mode": "chat", "supports_reasoning": reasons}, is_litellms)
    assert to is not None
    assert ("thinking" in pass_through.complete("/v1/messages", {"max_tokens": 1, "thinking": thinking}, to)) == kept


def test_an_unknown_context_sets_no_limit() -> None:
    to = Target("", "m", "", None, {}, None)
    assert pass_through.complete("/v1/chat/completions", {"model": "vllm_agent"}, to) == {"model": "m"}


@pytest.mark.parametrize(
    ("served", "asked", "does"),
    [
        ("m", "m", True),
        ("m", "mm", False),
        ("claude-*", "claude-sonnet-5", True),
        ("claude-*", "claude", False),
        ("m", None, False),
    ],
)
def test_names(served: str, asked: object, does: bool) -> None:
    assert pass_through.serves(served, asked) == does


def event(value: Any, name: str = "") -> bytes:
    return (
        (f"event: {name}\n" if name else "").encode()
        + b"data: "
        + json.dumps(value, separators=(",", ":")).encode()
        + b"\n\n"
    )


CHAT_ROUTE = "/v1/chat/completions"
CHAT = [
    event({"choices": [{"delta": {"role": "assistant", "content": ""}}]}),
    event({"choices": [{"delta": {"content": 'quoting "usage":{"prompt_tokens":9} and "choices":[]'}}]}),
    event({"choices": [{"delta": {"content": "é"}}]}),
    event({"choices": [], "usage": {"prompt_tokens": 31, "completion_tokens": 2, "total_tokens": 33}}),
    b"data: [DONE]\n\n",
]


@pytest.mark.parametrize("size", [1, 2, 7, 50, 100_000])
@pytest.mark.parametrize("hide", [True, False])
def test_the_count_is_read_and_left_out_however_the_stream_is_cut(size: int, hide: bool) -> None:
    text = b"".join(CHAT)
    events = Events(CHAT_ROUTE, hide)
    out = b"".join(events.take(text[at : at + size]) for at in range(0, len(text), size)) + events.rest()
    assert out == (b"".join(CHAT[:3]) + CHAT[4] if hide else text)
    assert events.usage == {"prompt_tokens": 31, "completion_tokens": 2, "total_tokens": 33}
    assert events.seen == 2


PIECE = {"role": "assistant", "text": '"role":"assistant" event: content_block_delta'}


@pytest.mark.parametrize(
    ("route", "stream"),
    [
        ("/v1/completions", [event({"choices": [{"text": PIECE["text"]}]})] * 2),
        (
            "/v1/messages",
            [
                event({"message": {"role": "assistant"}}, "message_start"),
                event({}, "content_block_start"),
                *[event({"delta": PIECE}, "content_block_delta")] * 2,
                event({}, "message_delta"),
            ],
        ),
        (
            "/v1/responses",
            [
                event({"response": {"output": []}}, "response.created"),
                event({"delta": PIECE}, "response.output_text.delta"),
                event({"delta": PIECE}, "response.reasoning_text.delta"),
                event({}, "response.output_text.done"),
            ],
        ),
    ],
)
def test_pieces_of_an_answer_are_counted(route: str, stream: list[bytes]) -> None:
    events = Events(route, hide_usage=False)
    for one in stream:
        events.take(one)
    assert events.seen == 2


@pytest.mark.parametrize(
    ("route", "body", "asked"),
    [
        (CHAT_ROUTE, {"messages": [1], "tools": [2], "stream": True}, {"messages": [1], "tools": [2]}),
        ("/v1/completions", {"prompt": "x", "add_special_tokens": False}, {"prompt": "x", "add_special_tokens": False}),
        ("/v1/completions", {"prompt": ["x", "y"]}, None),
        ("/v1/responses", {"input": "x"}, {"messages": [{"role": "user", "content": "x"}]}),
        (
            "/v1/responses",
            {"input": "x", "instructions": "y"},
            {"messages": [{"role": "system", "content": "y"}, {"role": "user", "content": "x"}]},
        ),
        ("/v1/responses", {"input": [{"type": "message"}]}, None),
        ("/v1/messages", {"messages": [1]}, None),
    ],
)
def test_what_a_prompt_is_counted_by(route: str, body: dict[str, Any], asked: dict[str, Any] | None) -> None:
    expected = None if asked is None else {"model": "m", **asked}
    assert pass_through.prompt(route, {"model": "m", "temperature": 1, **body}) == expected


def test_only_whole_events_go_on() -> None:
    events = Events(CHAT_ROUTE, hide_usage=False)
    assert events.take(b"data: 1\n\ndata: 2\n") == b"data: 1\n\n"
    assert events.take(b"\nda") == b"data: 2\n\n"
    assert events.rest() == b"da"


def test_the_last_count_of_messages_and_responses() -> None:
    messages = Events("/v1/messages", hide_usage=False)
    messages.take(
        event({"type": "message_start", "message": {"usage": {"input_tokens": 12, "output_tokens": 0}}}, "message_start")
    )
    assert messages.usage == {"prompt_tokens": 12, "completion_tokens": 0, "total_tokens": 12}
    last = {"input_tokens": 4, "cache_read_input_tokens": 8, "output_tokens": 3}
    messages.take(event({"type": "message_delta", "usage": last}, "message_delta") + event({"type": "message_stop"}))
    assert messages.usage == {"prompt_tokens": 12, "completion_tokens": 3, "total_tokens": 15}
    responses = Events("/v1/responses", hide_usage=False)
    done = {"output_text": "data: [DONE]\n\ndata: x", "usage": {"input_tokens": 5, "output_tokens": 6}}
    responses.take(event({"type": "response.completed", "response": done}, "response.completed"))
    assert responses.usage == {"prompt_tokens": 5, "completion_tokens": 6, "total_tokens": 11}


@pytest.mark.parametrize("last", [event({"error": {"message": "lost"}}), event({"type": "error"}, "error")])
@pytest.mark.parametrize("before", [b"", CHAT[0]])
def test_an_error_in_a_stream_is_noticed(before: bytes, last: bytes) -> None:
    events = Events(CHAT_ROUTE, hide_usage=True)
    assert events.take(before + event({"choices": [{"delta": {"content": '{"error":'}}]})) != b""
    assert events.error == ""
    assert events.take(before + last + b"data: [DONE]\n\n").endswith(b"[DONE]\n\n")
    assert events.error == last.decode().strip()


@pytest.mark.parametrize("body", [None, [], {}, {"usage": None}, {"usage": {}}, {"error": {"message": "x"}}])
def test_no_count(body: Any) -> None:
    assert pass_through.usage_of(body) == {}


@pytest.mark.parametrize("route", pass_through.LIMITS)
def test_a_broken_stream_ends_with_an_event_that_is_an_error(route: str) -> None:
    text = pass_through.broken(route, "the engine\nhas ended")
    assert text.endswith(b"\n\n")
    *name, data = text.decode().strip().split("\n")
    assert name == ([] if "completions" in route else ["event: error"])
    value = json.loads(data.removeprefix("data: "))
    assert value["error"]["message"] == "the engine\nhas ended"
    assert (value.get("type") == "error") == ("completions" not in route)

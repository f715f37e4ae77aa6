"""What vLLM 0.32 puts on the wire, precomputed: four routes, streamed and whole, of any length, one word a token."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable

WORD = " word"
MODEL = "vllm_agent"
CREATED = 1_700_000_000
PROMPT_TOKENS = 12
MODELS = json.dumps({"object": "list", "data": [{"id": MODEL, "object": "model", "max_model_len": 131072}]}).encode()


def frame(body: bytes) -> bytes:
    """One piece of a chunked HTTP/1.1 body."""
    return b"%x\r\n%s\r\n" % (len(body), body)


class Route:
    """What one route sends, in HTTP/1.1 chunks. Everything is kept: an answer costs no JSON the second time."""

    def __init__(
        self,
        begin: list[bytes],
        piece: Callable[[str], bytes],
        end: Callable[[int, bool], list[bytes]],
        whole: Callable[[int], object],
    ) -> None:
        self.begin = b"".join(map(frame, begin))
        self.piece: Callable[[int], bytes] = functools.cache(lambda tokens: frame(piece(WORD * tokens)))
        self.end: Callable[[int, bool], bytes] = functools.cache(
            lambda tokens, usage: b"".join(map(frame, end(tokens, usage))) + b"0\r\n\r\n"
        )
        self.whole: Callable[[int], bytes] = functools.cache(lambda tokens: json.dumps(whole(tokens)).encode())


def _data(value: object, event: str = "") -> bytes:
    text = f"event: {event}\n" if event else ""
    return (text + f"data: {json.dumps(value, separators=(',', ':'))}\n\n").encode()


def _usage(tokens: int) -> dict[str, int]:
    return {"prompt_tokens": PROMPT_TOKENS, "total_tokens": PROMPT_TOKENS + tokens, "completion_tokens": tokens}


def _openai(kind: str, choice: dict[str, object], name: str) -> dict[str, object]:
    choices = [{"index": 0, "logprobs": None, **choice}]
    return {"id": f"{name}-8f0e2b7c", "object": kind, "created": CREATED, "model": MODEL, "choices": choices}


def _chat() -> Route:
    def chunk(delta: object, finish: str | None = None) -> dict[str, object]:
        choice = {"delta": delta, "finish_reason": finish, "token_ids": None}
        return _openai("chat.completion.chunk", choice, "chatcmpl")

    def end(tokens: int, usage: bool) -> list[bytes]:
        last = [_data({**chunk({}), "choices": [], "usage": _usage(tokens)})] if usage else []
        return [_data(chunk({"content": ""}, "length")), *last, b"data: [DONE]\n\n"]

    def whole(tokens: int) -> object:
        message = {"role": "assistant", "content": WORD * tokens, "tool_calls": []}
        choice: dict[str, object] = {"message": message, "finish_reason": "length", "stop_reason": None}
        return {**_openai("chat.completion", choice, "chatcmpl"), "usage": _usage(tokens)}

    return Route(
        [_data(chunk({"role": "assistant", "content": ""}))], lambda text: _data(chunk({"content": text})), end, whole
    )


def _completions() -> Route:
    def chunk(text: str, finish: str | None = None) -> dict[str, object]:
        return _openai("text_completion", {"text": text, "finish_reason": finish, "stop_reason": None}, "cmpl")

    def end(tokens: int, usage: bool) -> list[bytes]:
        last = [_data({**chunk(""), "choices": [], "usage": _usage(tokens)})] if usage else []
        return [_data(chunk("", "length")), *last, b"data: [DONE]\n\n"]

    def whole(tokens: int) -> object:
        return {**chunk(WORD * tokens, "length"), "usage": _usage(tokens)}

    return Route([], lambda text: _data(chunk(text)), end, whole)


def _messages() -> Route:
    def event(kind: str, **values: object) -> bytes:
        return _data({"type": kind, **values}, kind)

    def message(content: list[object], tokens: int, stop: str | None) -> dict[str, object]:
        return {
            "id": "msg-8f0e2b7c",
            "type": "message",
            "role": "assistant",
            "content": content,
            "model": MODEL,
            "stop_reason": stop,
            "stop_sequence": None,
            "usage": {"input_tokens": PROMPT_TOKENS, "output_tokens": tokens},
        }

    def end(tokens: int, _usage: bool) -> list[bytes]:
        usage = {"input_tokens": PROMPT_TOKENS, "output_tokens": tokens}
        return [
            event("content_block_stop", index=0),
            event("message_delta", delta={"stop_reason": "max_tokens"}, usage=usage),
            event("message_stop"),
        ]

    begin = [
        event("message_start", message=message([], 0, None)),
        event("content_block_start", index=0, content_block={"type": "text", "text": ""}),
    ]
    return Route(
        begin,
        lambda text: event("content_block_delta", index=0, delta={"type": "text_delta", "text": text}),
        end,
        lambda tokens: message([{"type": "text", "text": WORD * tokens}], tokens, "max_tokens"),
    )


def _responses() -> Route:
    def event(kind: str, **values: object) -> bytes:
        return _data({"type": kind, "sequence_number": 1, **values}, kind)

    def response(status: str, tokens: int) -> dict[str, object]:
        text: dict[str, object] = {"type": "output_text", "text": WORD * tokens, "annotations": [], "logprobs": None}
        item = {"id": "msg_1", "type": "message", "role": "assistant", "status": status, "content": [text]}
        usage = {
            "input_tokens": PROMPT_TOKENS,
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": tokens,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": PROMPT_TOKENS + tokens,
        }
        done = status == "completed"
        return {
            "id": "resp_8f0e2b7c",
            "object": "response",
            "created_at": CREATED,
            "model": MODEL,
            "status": status,
            "output": [item] if done else [],
            "parallel_tool_calls": True,
            "temperature": 1.0,
            "top_p": 1.0,
            "tool_choice": "auto",
            "tools": [],
            "usage": usage if done else None,
        }

    place = {"item_id": "msg_1", "output_index": 0, "content_index": 0}
    item = {"id": "msg_1", "type": "message", "role": "assistant", "status": "in_progress", "content": []}
    part = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}

    def end(tokens: int, _usage: bool) -> list[bytes]:
        text = WORD * tokens
        done = {**part, "text": text}
        return [
            event("response.output_text.done", **place, text=text, logprobs=[]),
            event("response.content_part.done", **place, part=done),
            event("response.output_item.done", output_index=0, item={**item, "status": "completed", "content": [done]}),
            event("response.completed", response=response("completed", tokens)),
        ]

    begin = [
        event("response.created", response=response("in_progress", 0)),
        event("response.in_progress", response=response("in_progress", 0)),
        event("response.output_item.added", output_index=0, item=item),
        event("response.content_part.added", **place, part=part),
    ]
    return Route(
        begin,
        lambda text: event("response.output_text.delta", **place, delta=text, logprobs=[]),
        end,
        lambda tokens: response("completed", tokens),
    )


ROUTES = {
    "/v1/chat/completions": _chat(),
    "/v1/completions": _completions(),
    "/v1/messages": _messages(),
    "/v1/responses": _responses(),
}

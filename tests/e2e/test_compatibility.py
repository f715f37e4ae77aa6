"""What each route of the gateway does, found out by asking it: the table in docs/compatibility.md.

Each cell is the outcome of a request to the running stack. `UPDATE_DOCS=1` writes the table, otherwise it must be equal.
The model is the small one, with parsers for tool calls and reasoning; as it would neither call a tool nor think of its own
will, tools are forced (the engine's grammar sees to it) and reasoning is put behind the prompt by the chat template.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from harness import REPOSITORY, Stack

pytestmark = [pytest.mark.last, pytest.mark.only("native", reason="what a route does is the same in a container")]
PAGE = REPOSITORY / "docs" / "compatibility.md"
MODEL = "for-routes"
CHAT, TEXT, MESSAGES, RESPONSES = ROUTES = ("/v1/chat/completions", "/v1/completions", "/v1/messages", "/v1/responses")
QUESTION = "What is the capital of France?"
LENGTH = {CHAT: "max_tokens", TEXT: "max_tokens", MESSAGES: "max_tokens", RESPONSES: "max_output_tokens"}
CITY = {
    "type": "object",
    "properties": {"city": {"type": "string", "enum": ["Paris"]}},
    "required": ["city"],
    "additionalProperties": False,
}
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
# Behind a conversation that asks to think, answers that do, in the words that vLLM's parser for Granite looks for.
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n"
    "{% if message.content is string %}{{ message.content }}"
    "{% else %}{% for part in message.content or [] %}{{ part.text or '' }}{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if 'Think' in (messages | last).content | string %}{% for _ in range(3) %}<|im_start|>user\nGo on.<|im_end|>\n"
    "<|im_start|>assistant\nHere is my thought process: Let me see. Here is my response: Paris<|im_end|>\n{% endfor %}"
    "<|im_start|>user\nGo on.<|im_end|>\n{% endif %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
Check = Callable[["Route"], "bool | str"]


@contextlib.contextmanager
def serving(stack: Stack, options: str) -> Iterator[None]:
    """The stack with the small model and more options."""
    template = stack.root / "state" / "routes.jinja"
    template.write_text(TEMPLATE)
    fragment = (REPOSITORY / "models" / "smollm2-135m.yml").read_text()
    old = "--enforce-eager "
    assert fragment.count(old) == 1
    path = stack.root / "models" / f"{MODEL}.yml"
    path.write_text(fragment.replace(old, f"{old} {options} --chat-template {template} "))
    try:
        stack.run("up", MODEL=MODEL)
        yield
    finally:
        path.unlink()


class Route:
    """One route of the stack."""

    def __init__(self, stack: Stack, path: str) -> None:
        self.stack, self.path = stack, path

    def status(self, asked: str = QUESTION, **changes: Any) -> tuple[int, Any]:
        """Status and body of an answer."""
        conversation = [{"role": "user", "content": asked}]
        given: dict[str, Any] = {"messages": conversation}
        if self.path == TEXT:
            # A conversation as the model knows it: what it then says does not hang on a last bit, which processors round
            # differently.
            given = {"prompt": f"<|im_start|>user\n{asked}<|im_end|>\n<|im_start|>assistant\n"}
        elif self.path == RESPONSES:
            given = {"input": asked}
        body = {"model": MODEL, "temperature": 0, LENGTH[self.path]: 80, **given, **changes}
        return self.stack.call(self.path, body)

    def whole(self, asked: str = QUESTION, **changes: Any) -> Any:
        """A successful answer."""
        status, body = self.status(asked, **changes)
        assert status == 200, (self.path, changes, body)
        return body

    def events(self, **changes: Any) -> list[Any]:
        """The events of a streamed answer."""
        lines = str(self.whole(stream=True, **changes)).splitlines()
        return [json.loads(line.removeprefix("data: ")) for line in lines if line.startswith("data: {")]

    def text(self, body: Any) -> str:
        """What an answer says."""
        if self.path == CHAT:
            return str(body["choices"][0]["message"]["content"] or "")
        if self.path == TEXT:
            return str(body["choices"][0]["text"])
        parts = body.get("content") or []
        if self.path == RESPONSES:
            parts = [part for one in body["output"] if one["type"] == "message" for part in one["content"]]
        return "".join(part.get("text") or "" for part in parts)

    def streamed(self, events: list[Any]) -> str:
        """What a stream says."""
        if self.path in (CHAT, TEXT):
            choices = [event["choices"][0] for event in events if event["choices"]]
            return "".join(
                (choice["text"] if self.path == TEXT else choice["delta"].get("content")) or "" for choice in choices
            )
        if self.path == MESSAGES:
            return "".join(event["delta"].get("text", "") for event in events if event["type"] == "content_block_delta")
        return "".join(event["delta"] for event in events if event["type"] == "response.output_text.delta")

    def counted(self, body: Any) -> tuple[int, int]:
        """Tokens read and written, as an answer says."""
        usage = body["usage"]
        return (
            usage.get("prompt_tokens", usage.get("input_tokens")),
            usage.get("completion_tokens", usage.get("output_tokens")),
        )


def answers(route: Route) -> bool:
    return "Paris" in route.text(route.whole())


def streams(route: Route) -> bool:
    return route.streamed(route.events()) == route.text(route.whole())


def counts(route: Route) -> bool:
    return all(count > 0 for count in route.counted(route.whole()))


def counts_in_stream(route: Route) -> bool:
    changes = {"stream_options": {"include_usage": True}} if route.path in (CHAT, TEXT) else {}
    usages = [event.get("usage") or (event.get("response") or {}).get("usage") for event in route.events(**changes)]
    last = [usage for usage in usages if usage][-1]
    written = last.get("completion_tokens", last.get("output_tokens"))
    return bool(written == route.counted(route.whole())[1])


def limits(route: Route) -> bool:
    few: dict[str, Any] = {LENGTH[route.path]: 5}
    body = route.whole("Tell me a story.", **few)
    return route.counted(body)[1] == 5


def stops(route: Route) -> bool:
    before = route.text(route.whole())
    word = before.split()[1]
    given: dict[str, Any] = {"stop_sequences" if route.path == MESSAGES else "stop": [word]}
    cut = route.text(route.whole(**given))
    return before.startswith(cut) and word not in cut


def seeds(route: Route) -> bool:
    texts = [route.text(route.whole("Tell me a story.", temperature=1.5, seed=seed)) for seed in (7, 7, 8)]
    return texts[0] == texts[1] != texts[2]


def top_k(route: Route) -> bool:
    return route.text(route.whole(temperature=2, top_k=1)) == route.text(route.whole())


def two_choices(route: Route) -> bool:
    return len(route.whole(n=2, temperature=1)["choices"]) == 2


def logprobs(route: Route) -> bool:
    if route.path == RESPONSES:
        body = route.whole(include=["message.output_text.logprobs"], top_logprobs=2)
        return bool(body["output"][-1]["content"][0]["logprobs"][0]["top_logprobs"])
    given: dict[str, Any] = {"logprobs": True, "top_logprobs": 2} if route.path == CHAT else {"logprobs": 2}
    found = route.whole(**given)["choices"][0]["logprobs"]
    return len(found["content"][0]["top_logprobs"] if route.path == CHAT else found["top_logprobs"][0]) == 2


def schema(route: Route) -> bool:
    named = {"type": "json_schema", "name": "city", "schema": CITY, "strict": True}
    given: dict[str, Any] = {"response_format": {"type": "json_schema", "json_schema": {"name": "city", "schema": CITY}}}
    if route.path == RESPONSES:
        given = {"text": {"format": named}}
    elif route.path == MESSAGES:
        given = {"output_config": {"format": {"type": "json_schema", "schema": CITY}}}
    return bool(json.loads(route.text(route.whole(**given))) == {"city": "Paris"})


def tool(route: Route) -> dict[str, Any]:
    """A tool, and that it has to be used."""
    # Without `strict`, a tool is forced but its arguments may be anything.
    about = {"name": "visit", "description": "Visit a city.", "strict": True}
    if route.path == CHAT:
        function = {"type": "function", "function": {**about, "parameters": CITY}}
        return {"tools": [function], "tool_choice": {"type": "function", "function": {"name": "visit"}}}
    if route.path == MESSAGES:
        return {"tools": [{**about, "input_schema": CITY}], "tool_choice": {"type": "tool", "name": "visit"}}
    return {
        "tools": [{"type": "function", **about, "parameters": CITY}],
        "tool_choice": {"type": "function", "name": "visit"},
    }


def calls(route: Route) -> bool:
    body = route.whole(**tool(route))
    if route.path == CHAT:
        found = json.loads(body["choices"][0]["message"]["tool_calls"][0]["function"]["arguments"])
    elif route.path == MESSAGES:
        found = next(block["input"] for block in body["content"] if block["type"] == "tool_use")
    else:
        found = json.loads(next(one["arguments"] for one in body["output"] if one["type"] == "function_call"))
    return bool(found == {"city": "Paris"})


def calls_in_stream(route: Route) -> bool:
    events = route.events(**tool(route))
    if route.path == CHAT:
        deltas = [
            call for event in events for choice in event["choices"] for call in choice["delta"].get("tool_calls") or []
        ]
        pieces = [delta["function"].get("arguments") or "" for delta in deltas]
    elif route.path == MESSAGES:
        pieces = [event["delta"].get("partial_json", "") for event in events if event["type"] == "content_block_delta"]
    else:
        pieces = [event["delta"] for event in events if event["type"] == "response.function_call_arguments.delta"]
    return bool(json.loads("".join(pieces)) == {"city": "Paris"})


def takes_results(route: Route) -> bool:
    asked = {"role": "user", "content": QUESTION}
    if route.path == CHAT:
        call = {"id": "c1", "type": "function", "function": {"name": "visit", "arguments": "{}"}}
        said = [{"role": "assistant", "tool_calls": [call]}, {"role": "tool", "tool_call_id": "c1", "content": "Paris"}]
        return route.status(messages=[asked, *said], tools=tool(route)["tools"])[0] == 200
    if route.path == MESSAGES:
        use = {"type": "tool_use", "id": "c1", "name": "visit", "input": {}}
        result = {"type": "tool_result", "tool_use_id": "c1", "content": "Paris"}
        said = [{"role": "assistant", "content": [use]}, {"role": "user", "content": [result]}]
        return route.status(messages=[asked, *said], tools=tool(route)["tools"])[0] == 200
    call = {"type": "function_call", "call_id": "c1", "name": "visit", "arguments": "{}"}
    result = {"type": "function_call_output", "call_id": "c1", "output": "Paris"}
    return route.status(input=[asked, call, result], tools=tool(route)["tools"])[0] == 200


def reasons(route: Route) -> bool:
    body = route.whole("Think.")
    if route.path == CHAT:
        message = body["choices"][0]["message"]
        thought = message.get("reasoning") or message.get("reasoning_content")
    elif route.path == MESSAGES:
        thought = "".join(block.get("thinking") or "" for block in body["content"])
    else:
        parts = [part for one in body["output"] if one["type"] == "reasoning" for part in one["content"] or []]
        thought = "".join(part["text"] for part in parts)
    return (thought or "").strip() == "Let me see." and route.text(body).strip() == "Paris"


def refuses_images(route: Route) -> bool:
    address = f"data:image/png;base64,{PIXEL}"
    part: dict[str, Any] = {"type": "image_url", "image_url": {"url": address}}
    if route.path == MESSAGES:
        part = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PIXEL}}
    if route.path == RESPONSES:
        part = {"type": "input_image", "image_url": address, "detail": "auto"}
        return route.status(input=[{"role": "user", "content": [part]}])[0] == 400
    return route.status(messages=[{"role": "user", "content": [part]}])[0] == 400


def counts_tokens(route: Route) -> bool:
    body = {"model": MODEL, "messages": [{"role": "user", "content": QUESTION}]}
    status, counted = route.stack.call("/v1/messages/count_tokens", body)
    return status == 200 and counted["input_tokens"] == route.counted(route.whole())[0]


def goes_on(route: Route) -> bool:
    first = route.whole("My name is Ada.", store=True)
    status, body = route.status("What is my name?", previous_response_id=first["id"])
    return status == 200 and "Ada" in route.text(body)


ALL: tuple[str, ...] = ROUTES
FEATURES: tuple[tuple[str, Check, tuple[str, ...]], ...] = (
    ("answer", answers, ALL),
    ("stream, with the same text", streams, ALL),
    ("count of tokens", counts, ALL),
    ("count of tokens in a stream", counts_in_stream, ALL),
    ("limit of tokens", limits, ALL),
    ("stop sequences", stops, ALL),
    ("`seed`", seeds, (CHAT, TEXT, RESPONSES)),
    ("`top_k`", top_k, ALL),
    ("`n` answers at once", two_choices, (CHAT, TEXT)),
    ("log probabilities", logprobs, (CHAT, TEXT, RESPONSES)),
    ("answer by a JSON schema", schema, ALL),
    ("tool call", calls, (CHAT, MESSAGES, RESPONSES)),
    ("tool call in a stream", calls_in_stream, (CHAT, MESSAGES, RESPONSES)),
    ("tool's result", takes_results, (CHAT, MESSAGES, RESPONSES)),
    ("image for a text model: refused (400)", refuses_images, (CHAT, MESSAGES, RESPONSES)),
    ("counting tokens beforehand", counts_tokens, (MESSAGES,)),
    ("going on by `previous_response_id`", goes_on, (RESPONSES,)),
)


def cell(check: Check, route: Route) -> str:
    try:
        return "yes" if check(route) else "no"
    except (AssertionError, KeyError, IndexError, TypeError, StopIteration, ValueError) as error:
        print(f"{route.path}: {check.__name__}: {type(error).__name__}: {str(error)[:600]}")
        return "no"


def line(stack: Stack, name: str, check: Check, there: tuple[str, ...]) -> str:
    cells = [cell(check, Route(stack, path)) if path in there else "" for path in ROUTES]
    return f"| {name} | {' | '.join(cells)} |"


def test_the_table_is_what_the_routes_do(started: Stack) -> None:
    started.restore()
    rows = ["| | chat/completions | completions | messages | responses |", "| --- | --- | --- | --- | --- |"]
    with serving(started, "--enable-auto-tool-choice --tool-call-parser hermes"):
        rows += [line(started, *feature) for feature in FEATURES]
    # A grammar holds only after the reasoning, which this model would not begin when it is not made to.
    with serving(started, "--reasoning-parser granite"):
        rows.append(line(started, "reasoning, apart from the answer", reasons, (CHAT, MESSAGES, RESPONSES)))
    table = "\n".join(rows)
    page = PAGE.read_text()
    made = re.sub(r"\| \| chat.*?\n\n", lambda _: table + "\n\n", page, count=1, flags=re.S)
    if os.environ.get("UPDATE_DOCS"):
        PAGE.write_text(made)
    assert made == page, table

"""What reaches the engine, by its own request log: the defaults, and a request's own values when it has some."""

from __future__ import annotations

import re
from typing import Any

import pytest

from harness import Stack

MESSAGES = [{"role": "user", "content": "Hi"}]
SHIPPED = {"temperature": 0.2, "top_p": 0.9, "top_k": 50, "repetition_penalty": 1.1}
OWN = {"temperature": 0.11, "top_p": 0.5, "top_k": 7, "repetition_penalty": 1.3}
pytestmark = pytest.mark.only(
    "native", reason="both runtimes render by the same generator; it starts the engine three times"
)
# route -> body, and how the route calls the output limit
ROUTES: dict[str, tuple[dict[str, Any], str]] = {
    "/v1/chat/completions": ({"messages": MESSAGES}, "max_tokens"),
    "/v1/completions": ({"prompt": "Hi", "stop": [" "]}, "max_tokens"),  # else it goes on until the limit
    "/v1/messages": ({"messages": MESSAGES}, "max_tokens"),
    "/v1/responses": ({"input": "Hi"}, "max_output_tokens"),
}


def received(stack: Stack, path: str, **values: Any) -> dict[str, float]:
    """Send a request; what the engine says it received."""
    body, _ = ROUTES[path]
    if path == "/v1/messages":
        values = {"max_tokens": 16, **values}  # this API demands it
    before = len(stack.log("engine"))
    status, answer = stack.call(path, {"model": "smollm2-135m", **body, **values})
    assert status == 200, answer
    lines = [line for line in stack.log("engine")[before:].splitlines() if "Received request" in line]
    assert len(lines) == 1, lines
    return {name: float(value) for name, value in re.findall(r"\b([a-z_]+)=([\d.]+)", lines[0])}


def without_limit(values: dict[str, float]) -> dict[str, float]:
    return {name: values[name] for name in SHIPPED}


@pytest.mark.parametrize("path", ROUTES)
def test_defaults(stack: Stack, path: str) -> None:
    values = received(stack, path)
    assert without_limit(values) == SHIPPED
    if path != "/v1/messages":
        assert values["max_tokens"] == 2048


@pytest.mark.parametrize("path", ROUTES)
def test_a_requests_own_values_win(stack: Stack, path: str) -> None:
    values = received(stack, path, **OWN, presence_penalty=0.4, seed=7, **{ROUTES[path][1]: 17})
    assert without_limit(values) == OWN
    assert values["max_tokens"] == 17
    assert (values["presence_penalty"], values["seed"]) == (0.4, 7)


def test_layers(stack: Stack) -> None:
    """The environment loses to the fragment where that says something, and wins over vars.env; --set wins over all."""
    given = ("--set", "litellm.top_p=0.33", "--set", "litellm.max_tokens=128K")
    stack.run("up", *given, LITELLM_TEMPERATURE="0.4", LITELLM_TOP_K="20")
    for path in ROUTES:
        assert without_limit(received(stack, path)) == {**SHIPPED, "top_k": 20, "top_p": 0.33}, path
    # Never more than the context.
    assert "max_tokens: 8192" in stack.generated("config.yaml")
    assert received(stack, "/v1/chat/completions")["max_tokens"] <= 8192

    fragment = stack.root / "models" / "smollm2-135m.yml"
    fragment.write_text(
        fragment.read_text().replace("temperature: 0.2", "top_k: 30").replace("max_tokens: 2K", "max_tokens: 1K")
    )
    stack.run(LITELLM_TEMPERATURE="0.4", LITELLM_TOP_K="20")
    for path in ROUTES:
        values = received(stack, path)
        assert without_limit(values) == {**SHIPPED, "temperature": 0.4, "top_k": 30}, path
        if path != "/v1/messages":
            assert values["max_tokens"] == 1024

"""Which failed requests become 503, and what their client gets; LiteLLM itself is stood in for."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import httpx
import pytest


class HTTPError(Exception):
    def __init__(self, status_code: int, detail: str, headers: dict[str, str]) -> None:
        self.status_code, self.detail, self.headers = status_code, detail, headers


class ProxyError(Exception):
    """The fields of litellm.proxy._types.ProxyException."""

    def __init__(self, message: str, kind: str, param: str | None, code: int, headers: dict[str, str]) -> None:
        super().__init__(message)
        self.message, self.type, self.param, self.code, self.headers = message, kind, param, str(code), headers


class LlmError(Exception):
    """As litellm.exceptions has them."""

    def __init__(self, text: str, status_code: int = 500, llm_provider: str = "hosted_vllm") -> None:
        super().__init__(text)
        self.message, self.status_code, self.llm_provider = text, status_code, llm_provider


MODELS = [
    {"model_name": "vllm_agent", "model_info": {"mode": "chat"}},
    {"model_name": "m", "model_info": {"mode": "chat"}},
    {"model_name": "claude-*", "model_info": {"mode": "chat"}},
]


@pytest.fixture
def errors(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Any]:
    """scripts/gateway_errors.py; the engine loads weights."""
    members: dict[str, dict[str, Any]] = {
        "fastapi": {"HTTPException": HTTPError},
        "litellm": {},
        "litellm.integrations": {},
        "litellm.integrations.custom_logger": {"CustomLogger": object},
        "litellm.proxy": {"proxy_server": SimpleNamespace(llm_router=SimpleNamespace(model_list=MODELS))},
        "litellm.proxy._types": {"ProxyException": ProxyError},
    }
    for name, contents in members.items():
        module = ModuleType(name)
        vars(module).update(contents)
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setenv("CONFIG_DIR", str(tmp_path))
    (tmp_path / "phase").write_text("17 loading the model's weights\n")
    ours = ("gateway_errors", "gateway_refusals", "gateway_models")
    for name in ours:
        monkeypatch.delitem(sys.modules, name, raising=False)
    import gateway_errors

    yield gateway_errors
    for name in ours:
        sys.modules.pop(name, None)


def failed(cause: Exception | None = None, text: str = "x", status: int = 500) -> LlmError:
    error = LlmError(text, status)
    middle = RuntimeError("the provider's")
    error.__cause__, middle.__context__ = middle, cause
    return error


def answer(errors: Any, error: Exception, route: str = "/v1/chat/completions") -> Any:
    return asyncio.run(errors.engine_away.async_post_call_failure_hook({}, error, SimpleNamespace(request_route=route)))


@pytest.mark.parametrize(
    "cause",
    [httpx.ConnectError("refused"), httpx.ConnectTimeout(""), httpx.ReadError("reset"), httpx.RemoteProtocolError("")],
)
def test_no_connection(errors: Any, cause: Exception) -> None:
    made = answer(errors, failed(cause))
    assert made.status_code == 503
    assert made.detail.startswith("the engine is loading the model's weights (")
    assert made.headers == {"Retry-After": "5"}


@pytest.mark.parametrize(
    "error",
    [
        pytest.param(failed(httpx.ReadTimeout("slow")), id="slow"),
        pytest.param(failed(None, "a bug", 500), id="the engine's own 500"),
        pytest.param(failed(None, "bad", 400), id="400"),
        pytest.param(failed(None, "no model", 404), id="404"),
        pytest.param(failed(None, "EngineCore encountered an issue", 400), id="400 with its words"),
        pytest.param(httpx.ConnectError("the database's client"), id="not from the engine"),
        pytest.param(HTTPError(429, "too many", {}), id="429"),
    ],
)
def test_what_stays_as_it_is(errors: Any, error: Exception) -> None:
    before = (type(error), error.args, dict(vars(error)))
    assert answer(errors, error) is None
    assert (type(error), error.args, vars(error)) == before


@pytest.mark.parametrize("words", ["EngineCore encountered an issue.", "cannot schedule new futures after shutdown"])
def test_the_engines_last_words(errors: Any, words: str) -> None:
    assert answer(errors, failed(None, f'{{"error": {{"message": "{words}"}}}}')).status_code == 503


def test_any_500_of_an_engine_that_ends(errors: Any, tmp_path: Path) -> None:
    (tmp_path / "phase").write_text("17 stopping\n")
    assert answer(errors, failed(None, "whatever")).detail.startswith("the engine is stopping")
    assert answer(errors, failed(None, "whatever", 404)) is None


def test_messages_gets_it_in_the_error_itself(errors: Any) -> None:
    error = failed(httpx.ConnectError("refused"))
    assert answer(errors, error, "/v1/messages") is None
    assert isinstance(error, ProxyError)
    assert (error.code, error.headers) == ("503", {"Retry-After": "5"})
    assert error.message == str(error)
    assert error.message.startswith("the engine is loading")


def test_a_stream_whose_first_piece_fails_has_the_header(errors: Any) -> None:
    stream = SimpleNamespace(_hidden_params={"additional_headers": {"x": "1"}, "model_id": "m"})

    async def request() -> None:
        hook = errors.engine_away
        await hook.async_post_call_response_headers_hook({"stream": True}, None, stream, request_headers={})
        error = failed(httpx.ConnectError("refused"))
        await hook.async_post_call_failure_hook({}, error, SimpleNamespace(request_route="/v1/completions"))

    asyncio.run(request())
    assert stream._hidden_params == {"additional_headers": {"x": "1", "Retry-After": "5"}, "model_id": "m"}
    assert stream.fallback_headers_adopted


def refused(
    errors: Any, error: Exception, model: Any, route: str = "/v1/chat/completions", models: list[str] | None = None
) -> Any:
    key = SimpleNamespace(request_route=route, models=models or [])
    return asyncio.run(errors.engine_away.async_post_call_failure_hook({"model": model}, error, key))


@pytest.mark.parametrize(
    ("models", "there"),
    [([], "vllm_agent, m"), (["m", "other"], "m"), (["all-team-models"], "vllm_agent, m")],
)
def test_an_unknown_model_is_404_with_the_names_there_are(errors: Any, models: list[str], there: str) -> None:
    error = failed(None, "You passed in model=x. There are no healthy deployments for this model", 400)
    made = refused(errors, error, "x", models=models)
    assert (made.status_code, made.detail) == (404, f"the model `x` does not exist; there is {there}")


def test_no_model_at_all(errors: Any) -> None:
    made = refused(errors, failed(None, "You passed in model=None", 400), None)
    assert (made.status_code, made.detail) == (400, "the request names no model; there is vllm_agent, m")


@pytest.mark.parametrize("model", ["m", "claude-sonnet-5"])
def test_a_mistake_with_a_known_model_stays_as_it_is(errors: Any, model: str) -> None:
    assert refused(errors, failed(None, "the model is fine, the request is not", 400), model) is None


def test_a_route_that_the_model_does_not_have(errors: Any) -> None:
    made = refused(errors, failed(None, '{"detail":"Not Found"}', 404), "claude-x", "/v1/embeddings")
    told = "the model `claude-x` generates text; it does not answer on /v1/embeddings"
    assert (made.status_code, made.detail) == (400, told)


def test_an_earlier_answer_is_not_there(errors: Any) -> None:
    made = refused(errors, failed(None, "This response id was not issued by this proxy", 403), "m", "/v1/responses")
    told = "previous_response_id: answers are not kept; send the whole conversation as `input`"
    assert (made.status_code, made.detail) == (400, told)


def test_too_many_at_once_may_ask_again_soon(errors: Any) -> None:
    detail = "Rate limit exceeded. Current limit: 16, Remaining: 0. Limit resets at: 2026-01-01 00:01:00 UTC"
    error = HTTPError(429, detail, {"retry-after": "60", "rate_limit_type": "max_parallel_requests"})
    vars(error)["descriptor_key"] = "api_key"
    made = refused(errors, error, "m")
    assert (made.status_code, made.headers) == (429, {"Retry-After": "1"})
    told = "this key may have 16 requests under way at once (max_parallel_requests); one of them has to end first"
    assert made.detail == told


def test_too_many_a_minute_waits_for_the_minute(errors: Any) -> None:
    error = HTTPError(429, "x", {"retry-after": "60", "rate_limit_type": "requests"})
    assert refused(errors, error, "m") is None

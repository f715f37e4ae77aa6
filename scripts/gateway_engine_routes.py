"""The engine's own APIs on the gateway's ordinary addresses, by LiteLLM's pass-through.

LiteLLM's ordinary way takes every piece of a stream apart and builds it anew, twice: about half a millisecond of the
one thread it has, for each token of everybody. vLLM speaks the same four APIs itself. So a request that needs nothing
of LiteLLM's but the key, the limit and the books goes through `pass_through_request`, the function behind LiteLLM's
`pass_through_endpoints`; any other takes the ordinary way. That setting by itself cannot be used: it refuses paths
LiteLLM has already, knows no model names and no defaults, ignores a key's list of models, and counts no tokens.
Loaded by gateway_pass_through.py; the rules are in stack/pass_through.py, the usage records in gateway_engine_usage.py.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import os
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from typing import Any

import anyio
import httpx
from fastapi import Depends, HTTPException, Request, Response
from fastapi.responses import StreamingResponse
from fastapi.routing import APIRoute
from litellm.llms.custom_httpx.http_handler import get_async_httpx_client
from litellm.proxy import proxy_server
from litellm.proxy._types import ProxyException, UserAPIKeyAuth
from litellm.proxy.anthropic_endpoints import endpoints as anthropic_endpoints
from litellm.proxy.auth.user_api_key_auth import user_api_key_auth
from litellm.proxy.common_utils.http_parsing_utils import _read_request_body
from litellm.proxy.pass_through_endpoints.pass_through_endpoints import (
    LITELLM_PASS_THROUGH_DEPLOYMENT_MODEL_INFO_STATE_KEY as MODEL_INFO,
)
from litellm.proxy.pass_through_endpoints.pass_through_endpoints import pass_through_request
from litellm.proxy.response_api_endpoints.endpoints import responses_api
from litellm.types.llms.custom_http import httpxSpecialProvider
from litellm.types.utils import all_litellm_params

import gateway_engine_usage
import gateway_errors
import gateway_models
import gateway_refusals
import gateway_requests
from stack import engine_phase, pass_through
from stack.pass_through import Events, Target


async def _object(request: Request) -> dict[str, Any]:
    """A request's body, read before LiteLLM checks the key, as it fails over one that is a list."""
    body = await _read_request_body(request)
    if not isinstance(body, dict):
        raise ProxyException("the request's body is no JSON object", "invalid_request_error", None, 400)
    return body


_TOKEN_LIMITS = tuple(name for name in UserAPIKeyAuth.model_fields if "tpm" in name)
_AUTHENTICATED: Any = Depends(user_api_key_auth)
_BODY: Any = Depends(_object)
_is_litellms = frozenset(all_litellm_params).__contains__
_ORDINARY: dict[str, Callable[..., Awaitable[Any]]] = {
    "/v1/chat/completions": proxy_server.chat_completion,
    "/v1/completions": proxy_server.completion,
    "/v1/messages": anthropic_endpoints.anthropic_response,
    "/v1/responses": responses_api,
}


def _deployment(model: Any) -> dict[str, Any] | None:
    """The one deployment that serves a model by this name."""
    found = gateway_models.entries(model)
    return found[0] if len(found) == 1 else None


def _target(deployment: dict[str, Any]) -> Target | None:
    params = {name: _secret(value) for name, value in dict(deployment["litellm_params"]).items()}
    return pass_through.target(params, deployment.get("model_info") or {}, _is_litellms)


def _secret(value: Any) -> Any:
    prefix = "os.environ/"
    return os.environ.get(value.removeprefix(prefix), "") if isinstance(value, str) and value.startswith(prefix) else value


def _is_plain(route: str, request: Request, body: dict[str, Any], key: UserAPIKeyAuth) -> bool:
    """Whether nothing is asked for, by request or key, that LiteLLM does on its ordinary way only."""
    ours = gateway_requests.current_id()
    headers = any(name.startswith(("x-litellm-", "x-pass-")) and value != ours for name, value in request.headers.items())
    renames = bool(key.aliases or key.team_model_aliases)
    # LiteLLM sets tokens a minute aside before a request, and reads how many of its ordinary requests only.
    by_token = any(getattr(key, name, None) for name in _TOKEN_LIMITS) or any(
        "tpm" in name for kept in (key.metadata, key.team_metadata) for name in kept or ()
    )
    return not headers and not renames and not by_token and pass_through.passes(route, body, _is_litellms)


def _endpoint(route: str) -> Callable[..., Awaitable[Any]]:
    async def endpoint(
        request: Request,
        fastapi_response: Response,
        body: dict[str, Any] = _BODY,
        user_api_key_dict: UserAPIKeyAuth = _AUTHENTICATED,
    ) -> Any:
        deployment = _deployment(body.get("model"))
        to = _target(deployment) if deployment else None
        if deployment is None or to is None or not _is_plain(route, request, body, user_api_key_dict):
            return await _ORDINARY[route](
                request=request, fastapi_response=fastapi_response, user_api_key_dict=user_api_key_dict
            )
        setattr(request.state, MODEL_INFO, deployment.get("model_info"))
        answer = _pass(route, request, body, to, user_api_key_dict)
        return await _unless_client_leaves(request, user_api_key_dict, answer)

    return endpoint


def _client(request: Request, metadata: Any) -> dict[str, Any]:
    """What the books say of who asked, as on LiteLLM's ordinary way. It does not reach the engine.

    The client's own metadata stands apart, as LiteLLM would take some of its names for its own.
    """
    return {
        "requester_metadata": metadata,
        "user_agent": request.headers.get("user-agent"),
        "requester_ip_address": request.client.host if request.client else None,
    }


async def _unless_client_leaves(request: Request, key: UserAPIKeyAuth, answer: Awaitable[Response]) -> Response:
    """An answer, unless its client goes away before its beginning: then the engine is told to stop, by a closed connection.

    Once a stream has begun, Starlette does the same.
    """
    waiting = asyncio.current_task()
    assert waiting is not None
    left = False

    async def watch() -> None:
        nonlocal left
        while (await request.receive())["type"] != "http.disconnect":
            pass
        left = True
        waiting.cancel()

    watcher = asyncio.create_task(watch())
    try:
        return await answer
    except asyncio.CancelledError:
        if not left:
            raise
        waiting.uncancel()
        gone = HTTPException(499, "the client went away before the answer")
        await proxy_server.proxy_logging_obj.post_call_failure_hook(
            user_api_key_dict=key, original_exception=gone, request_data={**await _read_request_body(request)}
        )
        await _release(key)
        return Response(status_code=499)
    finally:
        watcher.cancel()


async def _count_tokens(
    request: Request, body: dict[str, Any] = _BODY, user_api_key_dict: UserAPIKeyAuth = _AUTHENTICATED
) -> Any:
    """/v1/messages/count_tokens by the engine's own tokenizer and template; LiteLLM would estimate.

    Nothing is generated, so it takes no place among the key's requests and is in no record.
    """
    deployment = _deployment(body.get("model"))
    if deployment is None:
        raise gateway_refusals.unknown_model(body.get("model"), user_api_key_dict)
    to = _target(deployment)
    if to is None:
        return await anthropic_endpoints.count_tokens(request=request, user_api_key_dict=user_api_key_dict)
    client = get_async_httpx_client(llm_provider=httpxSpecialProvider.PassThroughEndpoint)
    sent = {**body, "model": to.model}
    try:
        answer = await client.client.post(
            f"{to.base}/v1/messages/count_tokens", json=sent, headers={"Authorization": f"Bearer {to.key}"}
        )
    except httpx.HTTPError as error:
        raise gateway_errors.unavailable(engine_phase.current()) from error
    return Response(answer.content, answer.status_code, media_type="application/json")


async def _pass(route: str, request: Request, body: dict[str, Any], to: Target, key: UserAPIKeyAuth) -> Response:
    sent = pass_through.complete(route, body, to)
    if route == "/v1/responses":
        sent["request_id"] = gateway_requests.response_id()
    sent["litellm_metadata"] = client = _client(request, sent.pop("metadata", None))
    gateway_engine_usage.asks(client)
    response: Response = await pass_through_request(
        request=request,
        target=to.base + _spelled(route),
        custom_headers={"Authorization": f"Bearer {to.key}", gateway_requests.HEADER: gateway_requests.current_id()},
        user_api_key_dict=key,
        custom_body=sent,
        stream=bool(body.get("stream")),
        cost_per_request=0.0,
        timeout=to.timeout,
    )
    response.headers[gateway_requests.CALL] = gateway_requests.current_id()  # by which its usage record is found
    record = gateway_engine_usage.current_record()
    if response.status_code >= 500:
        response = await _whole(response)
        phase = engine_phase.current()
        if gateway_errors.says_away(response.status_code, bytes(response.body).decode(errors="replace"), phase):
            raise gateway_errors.unavailable(phase)
    if not isinstance(response, StreamingResponse):
        await _release(key)
        return response
    asked = bool((body.get("stream_options") or {}).get("include_usage"))
    events = Events(route, hide_usage=pass_through.counts_on_demand(route) and not asked)
    pieces = _relay(route, response.body_iterator, events, record, key, _prompt_tokens(route, body, to))
    # Begun here, so that it also ends here if the client goes away before the first piece.
    first = await anext(pieces, b"")
    response.body_iterator = _chain(first, pieces)
    return response


def _spelled(route: str) -> str:
    """The same path to the engine, but LiteLLM does not know it for Anthropic's.

    It would take every stream apart once more at its end to count tokens, which the engine has counted: on 1.108 that
    halves what one gateway carries.
    """
    return route.replace("/messages", "/%6Dessages")


def _prompt_tokens(route: str, body: dict[str, Any], to: Target) -> Callable[[], Awaitable[int]]:
    """What asks the engine how many tokens a request's prompt has; 0 if it cannot be asked."""

    async def ask() -> int:
        prompt = pass_through.prompt(route, {**body, "model": to.model})
        if prompt is None:
            return 0
        client = get_async_httpx_client(llm_provider=httpxSpecialProvider.PassThroughEndpoint).client
        headers = {"Authorization": f"Bearer {to.key}"}
        answer = await client.post(f"{to.base}/tokenize", json=prompt, headers=headers, timeout=10)
        return int(answer.json()["count"])

    return ask


async def _relay(
    route: str,
    stream: Any,
    events: Events,
    record: Any,
    key: UserAPIKeyAuth,
    prompt: Callable[[], Awaitable[int]],
) -> AsyncGenerator[bytes]:
    sent = complete = False
    # Where LiteLLM finds the request's place again, whoever ends this: the collector may, from another request's context.
    context = contextvars.copy_context()
    try:
        async for piece in stream:
            piece = events.take(piece)
            if events.error and not sent:
                phase = engine_phase.current()
                if gateway_errors.says_away(gateway_errors.UNAVAILABLE, events.error, phase):
                    raise gateway_errors.unavailable(phase)
            if piece:
                sent = True
                yield piece
        complete = not events.error
        if events.rest():
            yield events.rest()
    except Exception as error:  # LiteLLM has told the log
        away = gateway_errors.unavailable(engine_phase.current())
        if not sent:
            raise away from error
        yield pass_through.broken(route, away.message)  # the status 200 is out already
    finally:
        gateway_engine_usage.counted(record, events, complete, prompt)
        with anyio.CancelScope(shield=True):
            await asyncio.create_task(_release(key), context=context)


async def _chain(first: bytes, rest: AsyncGenerator[bytes]) -> AsyncIterator[bytes]:
    async with contextlib.aclosing(rest):
        yield first
        async for piece in rest:
            yield piece


async def _release(key: UserAPIKeyAuth) -> None:
    """Give the request's place back now: LiteLLM's own callback does it a little later, or never if nothing was sent."""
    await proxy_server.proxy_logging_obj._arelease_max_parallel_requests_on_disconnect(key)


async def _whole(response: Response) -> Response:
    if not isinstance(response, StreamingResponse):
        return response
    text = b"".join([bytes(piece) async for piece in response.body_iterator])
    return Response(text, response.status_code, media_type="application/json")


def add() -> None:
    """Put the routes before LiteLLM's own: the first one that fits is taken."""
    ours = [
        APIRoute(path, _endpoint(route), methods=["POST"], response_model=None, include_in_schema=False)
        for route in pass_through.LIMITS
        for path in ((route, route.removeprefix("/v1")) if route != "/v1/messages" else (route,))
    ]
    count = "/v1/messages/count_tokens"
    ours.append(APIRoute(count, _count_tokens, methods=["POST"], response_model=None, include_in_schema=False))
    routes = proxy_server.app.router.routes
    if not any(getattr(entry, "name", "") == "endpoint" for entry in routes[: len(ours)]):
        routes[:0] = ours

"""What every error of the gateway's APIs looks like, and how large a request may be, as a LiteLLM callback.

LiteLLM answers a wrong key on /v1/messages in OpenAI's shape, a page that is not there in FastAPI's, and hands on vLLM's
own types of errors. Clients look for the types and codes of the API that they speak; stack/api_errors.py knows these.
Answers that are no errors go through untouched. Loaded by `callbacks:` in litellm_config.template.yaml.
"""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import logging
import os
from typing import Any

from litellm.integrations.custom_logger import CustomLogger
from litellm.proxy.proxy_server import app

import gateway_requests
from gateway_requests import requests
from stack import api_errors
from stack.values import parse_size

# Seconds for which the rest of a request that is too large is read: most clients read an answer only after that.
_DRAIN = 30.0
_HEADERS_OF_THE_BODY = (b"content-length", b"content-type", b"content-encoding")


class ApiErrors:
    """An ASGI application around another one."""

    def __init__(self, inner: Any, max_bytes: int) -> None:
        """max_bytes: the largest request, which `inner` enforces; only named here."""
        self._inner, self._max = inner, max_bytes

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one connection."""
        api = api_errors.speaks(scope["path"]) if scope["type"] == "http" else ""
        if not api:
            counts = scope.get("path") == gateway_requests.COUNTS and gateway_requests.may_count(scope["headers"])
            await (gateway_requests.answer_counts(send) if counts else self._inner(scope, receive, send))
            return
        try:
            await self._answer(api, requests.begin(scope), receive, send)
        finally:
            requests.end()

    async def _answer(self, api: str, scope: Any, receive: Any, send: Any) -> None:
        failed: dict[str, Any] | None = None
        body = b""
        begun = False

        async def answer(message: Any) -> None:
            nonlocal failed, body, begun
            if begun and failed is None:
                await send(message)
            elif not begun:
                begun = True
                if message["type"] == "http.response.start":
                    message = requests.begins_to_answer(message)
                if message.get("status", 0) >= 400:
                    failed = message
                else:
                    await send(message)
            elif failed is not None:
                body += message.get("body", b"")
                if not message.get("more_body"):
                    if failed["status"] == 413:
                        await _drain(receive)
                    await self._fail(api, failed, body, send)

        await self._inner(scope, receive, answer)

    async def _fail(self, api: str, start: dict[str, Any], body: bytes, send: Any) -> None:
        kept = [(name, value) for name, value in start["headers"] if name.lower() not in _HEADERS_OF_THE_BODY]
        if (b"content-encoding", b"gzip") in [(name.lower(), value) for name, value in start["headers"]]:
            body = gzip.decompress(body)
        if start["status"] == 413:
            body = json.dumps({"detail": f"the request is larger than {self._max} bytes (MAX_REQUEST_SIZE)"}).encode()
        body = api_errors.shaped(api, start["status"], body)
        kept += [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        await send({**start, "headers": kept})
        await send({"type": "http.response.body", "body": body})


async def _drain(receive: Any) -> None:
    async def read() -> None:
        while (await receive()).get("more_body"):
            pass

    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(read(), _DRAIN)


def wrap() -> None:
    """Around everything that LiteLLM has built, so that no error passes by."""
    inner: Any = app.middleware_stack or app.build_middleware_stack()
    if isinstance(inner, ApiErrors):
        return
    most = parse_size(os.environ.get("MAX_REQUEST_SIZE") or "32M")
    try:
        from starlette.middleware.body_limit import RequestBodyLimitMiddleware

        inner = RequestBodyLimitMiddleware(inner, most)
    except ImportError:
        logging.getLogger("LiteLLM Proxy").warning("MAX_REQUEST_SIZE has no effect: Starlette is older than the pinned one")
    app.middleware_stack = ApiErrors(inner, most)
    gateway_requests.log()


wrap()
api_shapes = CustomLogger()

"""Open WebUI, answering only to its own addresses while it has no login.

A page of somebody else's that the same browser shows can send requests to this machine: by its own address, or by a name
of its own that it has led here. Without a login each would be the page's user.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import urlsplit

from open_webui.main import app as page

Scope = MutableMapping[str, Any]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

NAMES = frozenset({"127.0.0.1", "localhost", "::1", os.environ["CHAT_ADDRESS"]})


def is_own(scope: Scope) -> bool:
    """Whether a request names this page as where it goes, and as where it comes from if it says that."""
    headers = dict(scope["headers"])
    addresses = [b"http://" + headers.get(b"host", b""), headers.get(b"origin", b"http://localhost")]
    try:
        return all(urlsplit(address.decode("latin-1")).hostname in NAMES for address in addresses)
    except ValueError:
        return False


async def own_addresses_only(scope: Scope, receive: Callable[[], Awaitable[Any]], send: Send) -> None:
    """The page as an ASGI application; 403 for what was sent here by somebody else's."""
    if scope["type"] == "lifespan" or is_own(scope):
        await page(scope, receive, send)
    elif scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.close", "code": 1008})  # before it is accepted: answered with 403
    else:
        await send({"type": "http.response.start", "status": 403, "headers": [(b"content-type", b"text/plain")]})
        await send({"type": "http.response.body", "body": b"without a login this page answers to its own address only\n"})


app = page if os.environ["CHAT_LOGIN"] == "true" else own_addresses_only

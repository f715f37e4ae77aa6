"""Each request's id, its line in the log, and how many were answered with which status. Used by gateway_api_errors.py.

The client gets the id as `x-request-id`, LiteLLM as the id of its call, the engine as `X-Request-Id`, from which vLLM makes
its own. It is made here and never taken from a client: usage records are told apart by it, so one that came twice would
hide what was used.
"""

from __future__ import annotations

import hmac
import json
import logging
import os
import time
import uuid
from collections import Counter
from contextvars import ContextVar
from typing import Any

HEADER = "x-request-id"
# Answered to who has the master key: what ./runMe.sh status asks.
COUNTS = "/stack/requests"
# LiteLLM's, for its own log and usage records.
CALL = "x-litellm-call-id"
_HEADER, _CALL = HEADER.encode(), CALL.encode()
_id: ContextVar[str] = ContextVar("request_id", default="")


class Requests:
    """Those of this process; the gateway has one."""

    def __init__(self) -> None:
        self.since = time.time()
        self.under_way = 0
        self.answered: Counter[int] = Counter()

    def begin(self, scope: Any) -> Any:
        """A request has come; its id holds for all that is done for it. The scope in which LiteLLM finds it, too."""
        self.under_way += 1
        made = str(uuid.uuid4())
        _id.set(made)
        if any(name == _CALL for name, _ in scope["headers"]):
            return scope  # the client has a name of its own for LiteLLM
        return {**scope, "headers": [*scope["headers"], (_CALL, made.encode())]}

    def begins_to_answer(self, message: Any) -> Any:
        """Count an `http.response.start`, and name the id in it."""
        self.answered[message["status"]] += 1
        kept = [header for header in message["headers"] if header[0].lower() != _HEADER]
        return {**message, "headers": [*kept, (_HEADER, _id.get().encode())]}

    def end(self) -> None:
        """It is over, whichever way."""
        self.under_way -= 1

    def counts(self) -> dict[str, Any]:
        """For programs; `since` in seconds of the epoch."""
        answered = {str(status): count for status, count in sorted(self.answered.items())}
        return {"since": self.since, "under_way": self.under_way, "answered": answered}


requests = Requests()


def current_id() -> str:
    """The id of the request that is being served; empty outside of one."""
    return _id.get()


def response_id() -> str:
    """The same as vLLM's /v1/responses wants it, which takes no header: its `request_id`."""
    return f"resp_{_id.get()}"


def may_count(headers: Any) -> bool:
    """Whether who asks has the master key."""
    key = os.environ.get("LITELLM_MASTER_KEY", "")
    given = dict(headers).get(b"authorization", b"")
    return bool(key) and hmac.compare_digest(given, f"Bearer {key}".encode())


async def answer_counts(send: Any) -> None:
    """The whole answer to COUNTS."""
    body = json.dumps(requests.counts()).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


class AccessFormatter(logging.Formatter):
    """Uvicorn's line for each answer, which has neither a time nor an id, with both."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s.%(msecs)03d %(levelname)s: %(message)s", "%Y-%m-%d %H:%M:%S")

    def format(self, record: logging.LogRecord) -> str:
        """The line to print."""
        line = super().format(record)
        return f"{line} request {_id.get()}" if _id.get() else line


def log() -> None:
    """Have uvicorn's lines say when and for which request; they are printed within it."""
    for handler in logging.getLogger("uvicorn.access").handlers:
        handler.setFormatter(AccessFormatter())

"""Asks the parts of a stack how they are. Every question has a short time limit; none raises."""

from __future__ import annotations

import errno
import http.client
import json
import socket
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import Any

_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def get(url: str, key: str = "", seconds: float = 3.0) -> tuple[int, Any]:
    """GET a URL; the status (0 if nothing answers) and the decoded answer."""
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    try:
        with _OPENER.open(urllib.request.Request(url, headers=headers), timeout=seconds) as answer:
            return answer.status, _decode(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, _decode(error.read())
    except (OSError, ValueError, http.client.HTTPException):
        return 0, None


def _decode(raw: bytes) -> Any:
    try:
        return json.loads(raw)
    except ValueError:
        return raw.decode("utf-8", "replace")


@dataclass(frozen=True)
class Health:
    """How a part is.

    Attributes:
        ready: whether it does its work.
        detail: why not, or what it does.
        answers: whether it answered at all.
    """

    ready: bool
    detail: str
    answers: bool = True


def engine(port: int, key: str) -> Health:
    """Ready when it lists `vllm_agent` to who knows the key."""
    status, body = get(f"http://127.0.0.1:{port}/v1/models", key)
    if status == 0:
        return Health(False, "does not answer yet", answers=False)
    if status != 200:
        return Health(False, f"answers {status}")
    names = [model.get("id") for model in body.get("data", [])] if isinstance(body, dict) else []
    return Health("vllm_agent" in names, f"serves {', '.join(map(str, names))}")


def gateway(host: str, port: int) -> Health:
    """Ready when it is up and reaches its database."""
    status, body = get(f"http://{reachable(host)}:{port}/health/readiness")
    if status == 0:
        return Health(False, "does not answer yet")
    if status != 200:
        return Health(False, f"not ready: {_short(body)}")
    return Health(True, "answers")


def chat(host: str, port: int) -> Health:
    """Ready when the page is there."""
    status, _ = get(f"http://{reachable(host)}:{port}/health")
    return Health(True, f"http://{reachable(host)}:{port}") if status == 200 else Health(False, "does not answer yet")


def database(port: int) -> Health:
    """Ready when it takes connections."""
    return Health(True, "takes connections") if listens("127.0.0.1", port) else Health(False, "does not answer yet")


def reachable(bind_address: str) -> str:
    """What to write into a URL to reach, from this machine, what is bound to an address."""
    address = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(bind_address, bind_address)
    return f"[{address}]" if ":" in address else address


def listens(host: str, port: int) -> bool:
    """Whether something accepts connections there."""
    try:
        with socket.create_connection((host, port), timeout=1):
            return True
    except OSError:
        return False


def why_not_bind(host: str, port: int) -> str:
    """Why no server could listen there, or empty if one could."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return "is taken by another program"
            return f"cannot be used: {error.strerror}"
    return ""


def _short(body: Any) -> str:
    return json.dumps(body)[:160] if not isinstance(body, str) else body[:160]

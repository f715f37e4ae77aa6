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
        partly: it is not ready, and yet serves some requests.
        dead: it answers, but what does its work has ended.
    """

    ready: bool
    detail: str
    answers: bool = True
    partly: bool = False
    dead: bool = False


def engine(port: int, key: str) -> Health:
    """Ready when its core lives and it lists `vllm_agent` to who knows the key."""
    base = f"http://127.0.0.1:{port}"
    status, _ = get(f"{base}/health")
    if status == 0:
        return Health(False, "does not answer yet", answers=False)
    if status == 503:
        return Health(False, "its core has ended", dead=True)
    status, body = get(f"{base}/v1/models", key)
    if status != 200:
        return Health(False, f"answers {status}" if status else "does not answer yet", answers=bool(status))
    names = [model.get("id") for model in body.get("data", [])] if isinstance(body, dict) else []
    return Health("vllm_agent" in names, f"serves {', '.join(map(str, names))}")


# LiteLLM takes 2 to 4 s to say that it does not reach its database.
_READINESS_SECONDS = 4.0
_WITHOUT_DATABASE = "does not reach its database: serves the keys it knows, refuses others"


def gateway(host: str, port: int) -> Health:
    """Ready when it is up and reaches its database."""
    base = f"http://{reachable(host)}:{port}"
    if get(f"{base}/health/liveliness")[0] == 0:
        return Health(False, "does not answer yet", answers=False)
    status, body = get(f"{base}/health/readiness", seconds=_READINESS_SECONDS)
    if status == 200:
        return Health(True, "answers")
    if status == 0:
        what = f"lives, but did not say within {_READINESS_SECONDS:g} s whether it reaches its database"
        return Health(False, what, partly=True)
    if isinstance(body, dict) and "db" in body:
        return Health(False, _WITHOUT_DATABASE, partly=True)
    return Health(False, f"not ready: {_short(body)}")


def chat(host: str, port: int) -> Health:
    """Ready when the page is there."""
    status, _ = get(f"http://{reachable(host)}:{port}/health")
    return Health(True, f"http://{reachable(host)}:{port}") if status == 200 else Health(False, "does not answer yet")


# PostgreSQL's SSLRequest: it answers one byte, asks for no password and logs nothing.
_SSL_REQUEST = bytes.fromhex("0000000804d2162f")


def database(port: int) -> Health:
    """Ready when it takes connections: not the kernel for it, but the server itself."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
            connection.settimeout(2)
            connection.sendall(_SSL_REQUEST)
            if connection.recv(1) in (b"N", b"S"):
                return Health(True, "takes connections")
    except OSError:
        pass
    return Health(False, "does not answer yet", answers=False)


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

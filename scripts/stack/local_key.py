"""Makes `sk-FAKE` an ordinary virtual key with the stack's limit, or takes it away. Run beside the gateway's start.

With METRICS=true it also makes METRICS_API_KEY one that may read /metrics and nothing else.

    LITELLM_MASTER_KEY=... LITELLM_PORT=4000 LOCAL_KEY=true MAX_PARALLEL_REQUESTS=16 python -m stack.local_key

Standard library only: it also runs with the Python of LiteLLM's image. Idempotent.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from stack import engine_phase
from stack.runtime.probe import reachable

LOCAL_KEY = "sk-FAKE"
ALIAS, METRICS_ALIAS = "local", "metrics (the stack's own)"
# LiteLLM's own groups, and what OpenAI's `models.retrieve` asks, which they leave out.
ROUTES = ("llm_api_routes", "info_routes", "/v1/models/*", "/models/*")


class Gateway:
    """The management calls of a LiteLLM gateway on this machine."""

    def __init__(self, host: str, port: int, master_key: str) -> None:
        self._base = f"http://{reachable(host)}:{port}"
        self._key = master_key

    def call(self, path: str, body: dict[str, Any] | None = None, key: str = "") -> tuple[int, Any]:
        """GET, or POST `body`, with the master key or another; the status (0: no answer) and the decoded answer."""
        request = urllib.request.Request(
            self._base + path,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {key or self._key}", "Content-Type": "application/json"},
        )
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=30) as answer:
                return answer.status, _decode(answer.read())
        except urllib.error.HTTPError as error:
            return error.code, _decode(error.read())
        except (OSError, http.client.HTTPException):
            return 0, None


def _decode(raw: bytes) -> Any:
    try:
        return json.loads(raw)
    except ValueError:
        return raw.decode("utf-8", "replace")


def provision(gateway: Gateway, enabled: bool, limit: int) -> str:
    """Bring the local key to what it should be.

    Args:
        gateway: the gateway.
        enabled: whether the key should exist.
        limit: requests it may have under way at once.

    Returns:
        What was done, in a few words.

    Raises:
        OSError: the gateway refused.
    """
    exists = _kept(gateway, key_hash=key_hash(LOCAL_KEY))
    if not enabled:
        if not exists:
            return "the local key is off"
        _expect(gateway.call("/key/delete", {"keys": [LOCAL_KEY]}))
        return "the local key was removed"
    wanted = {"key": LOCAL_KEY, "max_parallel_requests": limit, "allowed_routes": list(ROUTES)}
    # Somebody may delete it just now; then there is nothing to bring up to date.
    if exists and gateway.call("/key/update", wanted)[0] == 200:
        return f"the local key's limit is {limit}"
    _expect(gateway.call("/key/generate", {**wanted, "key_alias": ALIAS}))
    return f"the local key was made, with a limit of {limit}"


def provision_metrics(gateway: Gateway, key: str) -> str:
    """Make the key that may read the gateway's metrics; a new one replaces it.

    Args:
        gateway: the gateway.
        key: its value.

    Returns:
        What was done, in a few words.

    Raises:
        OSError: the gateway refused.
    """
    if _kept(gateway, key_hash=key_hash(key)):
        return "the key for metrics is there"
    if _kept(gateway, key_alias=METRICS_ALIAS):
        gateway.call("/key/delete", {"key_aliases": [METRICS_ALIAS]})
    # LiteLLM redirects the first to the second.
    wanted = {"key": key, "key_alias": METRICS_ALIAS, "allowed_routes": ["/metrics", "/metrics/"]}
    _expect(gateway.call("/key/generate", wanted))
    return "the key for metrics was made"


def _kept(gateway: Gateway, **filters: str) -> bool:
    """Whether there is such a key. Not by /key/info, which puts an error in the log for one that there is not."""
    return bool(_expect(gateway.call("/key/list?" + urllib.parse.urlencode({"size": 1, **filters})))["keys"])


def key_hash(key: str) -> str:
    """What the gateway keeps of a key: the SHA-256 of it."""
    return hashlib.sha256(key.encode()).hexdigest()


def _expect(result: tuple[int, Any]) -> Any:
    status, body = result
    if status != 200:
        raise OSError(f"the gateway answered {status}: {str(body)[:300]}")
    return body


def take_full_share(autogroup: Path = Path("/proc/self/autogroup")) -> None:
    """End the low priority that this session started with; see `let_engine_load_first` in litellm_entrypoint.sh."""
    for _ in range(20):
        try:
            if autogroup.read_text().split()[-1:] not in ([], ["0"]):
                autogroup.write_text("0\n")
            return
        except BlockingIOError:
            time.sleep(0.15)  # the kernel allows ordinary users ten changes a second, all sessions together
        except OSError:
            return


def _until_done(what: str, action: Callable[[], str], parent: int) -> bool:
    """Try until it works; False when the gateway, which is the parent of this process, is gone. Says each error once."""
    last = ""
    while os.getppid() == parent:
        try:
            print(action(), flush=True)
            return True
        except OSError as error:
            if str(error) != last:
                last = str(error)
                print(f"{what} is not ready: {error}", file=sys.stderr, flush=True)
        time.sleep(0.5)
    return False


def main() -> int:
    """Wait for the gateway, then provision; retries until the gateway, its parent, is gone."""
    gateway = Gateway(
        os.environ.get("LITELLM_HOST", "127.0.0.1"), int(os.environ["LITELLM_PORT"]), os.environ["LITELLM_MASTER_KEY"]
    )
    enabled, metrics = _is_on("LOCAL_KEY", "true"), _is_on("METRICS", "false")
    limit, metrics_key = int(os.environ["MAX_PARALLEL_REQUESTS"]), os.environ.get("METRICS_API_KEY", "")
    parent = os.getppid()
    while gateway.call("/health/readiness")[0] != 200:
        if engine_phase.current().name == engine_phase.READY:
            take_full_share()  # nothing is left to wait for; beside other busy programs it might take minutes
        time.sleep(0.5)
        if os.getppid() != parent:
            return 1
    take_full_share()
    if not _until_done("the local key", lambda: provision(gateway, enabled, limit), parent):
        return 1
    if enabled:
        # The gateway remembers it from now on: a rush of first requests need not all ask the database.
        gateway.call("/v1/models", key=LOCAL_KEY)
    if os.environ.get("LOCAL_KEY_STATE"):
        # Says which gateway process has been seen to, by its pid: the parent of this one.
        Path(os.environ["LOCAL_KEY_STATE"]).write_text(f"{parent}\n")
    if metrics and metrics_key:
        _until_done("the key for metrics", lambda: provision_metrics(gateway, metrics_key), parent)
    return 0


def _is_on(name: str, usual: str) -> bool:
    return os.environ.get(name, usual).lower() in ("1", "true", "yes", "on")


if __name__ == "__main__":
    sys.exit(main())

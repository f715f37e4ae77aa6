"""The local key against a gateway made of an HTTP server."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
import time
import urllib.parse
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from stack.local_key import METRICS_ALIAS, Gateway, provision, provision_metrics

ROUTES = ["llm_api_routes", "info_routes", "/v1/models/*", "/models/*"]


class FakeGateway(ThreadingHTTPServer):
    """Keeps keys; `calls` is what it was asked, `answers` overrides statuses."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.keys: dict[str, dict[str, Any]] = {}
        self.calls: list[tuple[str, Any]] = []
        self.answers: dict[str, list[int]] = {}

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self.server_address[1])

    def handle_call(self, path: str, body: Any, key: str) -> tuple[int, Any]:
        """One management call."""
        self.calls.append((path, body))
        route = path.partition("?")[0]
        if self.answers.get(route):
            return self.answers[route].pop(0), {"error": "as told"}
        if route == "/health/readiness":
            return 200, {}
        if route == "/metrics/":
            known = self.keys.get(key.removeprefix("Bearer "), {})
            return (200, {}) if route in known.get("allowed_routes", []) else (401, {})
        if key != "Bearer sk-master":
            return 401, {"error": "wrong key"}
        if route == "/key/list":
            asked = dict(urllib.parse.parse_qsl(path.partition("?")[2]))
            kept = [(hashlib.sha256(name.encode()).hexdigest(), made.get("key_alias")) for name, made in self.keys.items()]
            found = [
                digest
                for digest, alias in kept
                if asked.get("key_hash", digest) == digest and asked.get("key_alias", alias) == alias
            ]
            return 200, {"keys": found[: int(asked["size"])], "total_count": len(found)}
        if route in ("/key/generate", "/key/update"):
            self.keys[body["key"]] = body
            return 200, {}
        if route == "/key/delete":
            aliases = body.get("key_aliases", [])
            gone = [name for name, kept in self.keys.items() if kept.get("key_alias") in aliases] + body.get("keys", [])
            for name in gone:
                del self.keys[name]
            return (200, {}) if gone else (404, {})
        return 404, {}


class _Handler(BaseHTTPRequestHandler):
    server: FakeGateway

    def _answer(self) -> None:
        raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        key = self.headers.get("Authorization", "")
        status, body = self.server.handle_call(self.path, json.loads(raw) if raw else None, key)
        self.send_response(status)
        self.end_headers()
        self.wfile.write(json.dumps(body).encode())

    do_GET = do_POST = _answer  # noqa: N815

    def log_message(self, *_: Any) -> None:
        """Silence."""


@pytest.fixture
def server() -> Iterator[FakeGateway]:
    """A fake gateway that answers."""
    made = FakeGateway()
    thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield made
    made.shutdown()
    thread.join()
    made.server_close()


def _gateway(server: FakeGateway, key: str = "sk-master") -> Gateway:
    return Gateway("127.0.0.1", server.port, key)


WANTED = {"key": "sk-FAKE", "max_parallel_requests": 16, "allowed_routes": ROUTES}


def _environment(server: FakeGateway, **more: str) -> dict[str, str]:
    """What the program is started with."""
    told = {"LITELLM_PORT": str(server.port), "LITELLM_MASTER_KEY": "sk-master", "MAX_PARALLEL_REQUESTS": "5"}
    return {**os.environ, **told, **more}


def test_makes_the_key(server: FakeGateway) -> None:
    assert provision(_gateway(server), True, 16) == "the local key was made, with a limit of 16"
    assert server.keys == {"sk-FAKE": {**WANTED, "key_alias": "local"}}


def test_second_start_changes_only_the_limit(server: FakeGateway) -> None:
    provision(_gateway(server), True, 16)
    assert provision(_gateway(server), True, 3) == "the local key's limit is 3"
    assert server.keys == {"sk-FAKE": {**WANTED, "max_parallel_requests": 3}}
    assert [path for path, _ in server.calls].count("/key/generate") == 1


def test_key_that_is_shown_but_gone_is_made_again(server: FakeGateway) -> None:
    server.keys["sk-FAKE"] = {}
    server.answers["/key/update"] = [404]
    assert provision(_gateway(server), True, 16) == "the local key was made, with a limit of 16"


def test_a_key_that_is_not_there_is_not_asked_for_itself(server: FakeGateway) -> None:
    """LiteLLM logs an error for that, and `status` would show it after every first start."""
    provision(_gateway(server), True, 16)
    provision_metrics(_gateway(server), "sk-m")
    assert [path.partition("?")[0] for path, _ in server.calls] == [
        "/key/list",
        "/key/generate",
        *["/key/list"] * 2,
        "/key/generate",
    ]


def test_takes_the_key_away(server: FakeGateway) -> None:
    provision(_gateway(server), True, 16)
    assert provision(_gateway(server), False, 16) == "the local key was removed"
    assert server.keys == {}
    assert provision(_gateway(server), False, 16) == "the local key is off"


def test_the_key_for_metrics_may_read_them_only(server: FakeGateway) -> None:
    wanted = {"key": "sk-m", "key_alias": METRICS_ALIAS, "allowed_routes": ["/metrics", "/metrics/"]}
    assert provision_metrics(_gateway(server), "sk-m") == "the key for metrics was made"
    assert server.keys == {"sk-m": wanted}
    assert provision_metrics(_gateway(server), "sk-m") == "the key for metrics is there"
    assert [path for path, _ in server.calls].count("/key/generate") == 1


def test_another_key_for_metrics_replaces_it_and_nobody_elses(server: FakeGateway) -> None:
    server.keys["sk-alice"] = {"key_alias": "metrics"}
    provision_metrics(_gateway(server), "sk-old")
    provision_metrics(_gateway(server), "sk-new")
    assert set(server.keys) == {"sk-alice", "sk-new"}


@pytest.mark.parametrize(
    ("key", "answers", "message"),
    [
        ("sk-wrong", {}, "the gateway answered 401: {'error': 'wrong key'}"),
        ("sk-master", {"/key/generate": [500]}, "the gateway answered 500: {'error': 'as told'}"),
        ("sk-master", {"/key/list": [500]}, "the gateway answered 500: {'error': 'as told'}"),
    ],
    ids=["wrong-master-key", "failing", "no-list"],
)
def test_refusal_is_told(server: FakeGateway, key: str, answers: dict[str, list[int]], message: str) -> None:
    server.answers.update(answers)
    with pytest.raises(OSError, match="the gateway answered") as caught:
        provision(_gateway(server, key), True, 16)
    assert str(caught.value) == message


def test_nothing_answers() -> None:
    taken = FakeGateway()
    port = taken.port
    taken.server_close()
    assert Gateway("127.0.0.1", port, "k").call("/health/readiness") == (0, None)


def test_program_waits_retries_and_ignores_proxies(server: FakeGateway) -> None:
    server.answers = {"/health/readiness": [503], "/key/generate": [500]}
    env = _environment(server, LOCAL_KEY="true", http_proxy="http://127.0.0.1:9", HTTP_PROXY="http://127.0.0.1:9")
    argv = [sys.executable, "-m", "stack.local_key"]
    done = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stdout) == (0, "the local key was made, with a limit of 5\n")
    assert done.stderr == "the local key is not ready: the gateway answered 500: {'error': 'as told'}\n"
    assert server.keys["sk-FAKE"]["max_parallel_requests"] == 5


@pytest.mark.skipif(not Path("/proc/self/autogroup").exists(), reason="this kernel does not weigh sessions")
@pytest.mark.parametrize(("phase", "nice"), [("compiling", "19"), ("ready", "0")])
def test_the_low_priority_ends_with_the_engines_start(server: FakeGateway, tmp_path: Path, phase: str, nice: str) -> None:
    """Not with the gateway's own, which other programs may then hold up."""
    server.answers = {"/health/readiness": [503] * 1000}
    (tmp_path / "phase").write_text(f"1796071517.7 {phase}\n")
    argv = ["sh", "-c", 'echo 19 >/proc/self/autogroup; exec "$0" -m stack.local_key', sys.executable]
    running = subprocess.Popen(argv, env=_environment(server, CONFIG_DIR=str(tmp_path)), start_new_session=True)
    try:
        while len(server.calls) < 3:
            time.sleep(0.05)
        assert Path(f"/proc/{running.pid}/autogroup").read_text().split()[-1] == nice
    finally:
        running.terminate()
        running.wait()


def test_program_makes_the_key_for_metrics_after_the_local_one(server: FakeGateway, tmp_path: Path) -> None:
    """The gateway counts as ready without it."""
    server.answers = {"/key/generate": [200, 500]}
    env = _environment(server, METRICS="true", METRICS_API_KEY="sk-m", LOCAL_KEY_STATE=str(tmp_path / "state"))
    argv = [sys.executable, "-m", "stack.local_key"]
    done = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=30)
    assert done.stdout == "the local key was made, with a limit of 5\nthe key for metrics was made\n"
    assert done.stderr == "the key for metrics is not ready: the gateway answered 500: {'error': 'as told'}\n"
    assert "sk-m" in server.keys
    assert (tmp_path / "state").read_text() == f"{os.getpid()}\n"

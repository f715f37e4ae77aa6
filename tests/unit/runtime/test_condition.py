"""What the condition of a part is called."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from stack.engine_phase import DEAD, READY, STOPPING, Phase
from stack.runtime import condition, engine_log, probe
from stack.runtime.probe import Health

NOW = 1000.0
SERVES = Health(True, "serves vllm_agent, m")
SILENT = Health(False, "does not answer yet", answers=False)


@pytest.mark.parametrize(
    ("health", "phase", "doing", "state", "detail"),
    [
        pytest.param(SERVES, Phase(READY, 990), "", "ready", "serves vllm_agent, m", id="ready"),
        pytest.param(
            SERVES, Phase(STOPPING, 995), "", "draining", "is stopping: finishes what it has, takes nothing new (5 s so far)"
        ),
        pytest.param(SERVES, Phase(STOPPING, 800), "", "ready", "serves vllm_agent, m", id="an-earlier-one-said-that"),
        pytest.param(
            Health(False, "its core has ended", dead=True),
            Phase(READY, 990),
            "",
            "failing",
            "its core has ended; it is about to be started again",
            id="core-killed",
        ),
        pytest.param(
            SERVES, Phase(DEAD, 999), "", "failing", "its core has ended; it is about to be started again", id="core-failed"
        ),
        pytest.param(
            SILENT, Phase(READY, 990), "", "unresponsive", "was ready, and does not answer now", id="hangs-or-is-stopped"
        ),
        pytest.param(
            SILENT, Phase("warming up", 998), "", "starting", "warming up (2 s so far)", id="loads-and-says-what-it-does"
        ),
        pytest.param(SILENT, Phase("loading the model"), "compiling", "starting", "compiling", id="only-its-log-says"),
        pytest.param(SILENT, Phase(READY, 1), "", "starting", "does not answer yet", id="nothing-said-since-its-start"),
    ],
)
def test_engine(health: Health, phase: Phase, doing: str, state: str, detail: str) -> None:
    assert condition.engine(health, phase, doing, began=900, now=NOW) == (state, detail)


@pytest.mark.parametrize(
    ("health", "seconds", "state"),
    [
        (Health(True, "answers"), 1, "ready"),
        (SILENT, 10, "starting"),
        (SILENT, 1000, "unresponsive"),
        (Health(False, "the local key is not ready yet"), 1000, "starting"),
        (Health(False, "does not reach its database", partly=True), 1000, "degraded"),
    ],
)
def test_others(health: Health, seconds: float, state: str) -> None:
    assert condition.other(health, seconds)[0] == state


def test_a_gateway_that_stops_says_so_in_its_log() -> None:
    begins, ends = "INFO:     Started server process [7]", "INFO:     Shutting down"
    assert engine_log.server_stops([begins, "a line", ends, "INFO:     Waiting for connections to close."])
    assert not engine_log.server_stops([ends, begins, "a line"])
    assert not engine_log.server_stops(["a line"])
    assert condition.other(SILENT, 1000, stopping=True)[0] == "draining"
    assert condition.other(Health(True, "answers"), 1000, stopping=True)[0] == "ready"


@pytest.fixture
def listener() -> Iterator[Callable[[bytes], int]]:
    """Starts servers that answer every connection with some bytes; none: it only accepts, as a stopped server's kernel."""
    open_sockets: list[socket.socket] = []

    def start(answer: bytes) -> int:
        server = socket.create_server(("127.0.0.1", 0))
        open_sockets.append(server)

        def serve() -> None:
            while True:
                try:
                    connection = server.accept()[0]
                except OSError:
                    return
                open_sockets.append(connection)
                connection.recv(65536)
                if answer:
                    connection.sendall(answer)

        threading.Thread(target=serve, daemon=True).start()
        return int(server.getsockname()[1])

    yield start
    for one in open_sockets:
        one.close()


def test_a_database_that_only_its_kernel_answers_for_is_not_ready(listener: Any) -> None:
    assert probe.database(listener(b"N")).ready
    silent = probe.database(listener(b""))
    assert (silent.ready, silent.answers) == (False, False)


def http(status: str, body: str) -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n{body}".encode()


def test_gateway_without_its_database(listener: Any) -> None:
    found = probe.gateway("127.0.0.1", listener(http("503 x", '{"status": "healthy", "db": "disconnected"}')))
    assert (found.ready, found.partly) == (False, True)
    assert probe.gateway("127.0.0.1", listener(http("200 OK", '{"db": "connected"}'))).ready
    other = probe.gateway("127.0.0.1", listener(http("503 x", "loading")))
    assert (other.ready, other.partly, other.detail) == (False, False, "not ready: loading")


def test_an_engine_whose_core_has_ended(listener: Any) -> None:
    assert probe.engine(listener(http("503 x", "")), "k").dead
    assert probe.engine(listener(http("200 OK", '{"data": [{"id": "vllm_agent"}]}')), "k") == Health(
        True, "serves vllm_agent"
    )

"""While the engine is away, every route says so at once: 503, Retry-After, and what the engine is doing."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import Any

import pytest

from harness import PATIENCE, Stack, core_of, frozen, wait_for
from streams import ENDLESS, SHORT

MESSAGES = [{"role": "user", "content": "Hi"}]
ROUTES: list[tuple[str, dict[str, Any]]] = [
    ("/v1/chat/completions", {"messages": MESSAGES, "max_tokens": 4}),
    ("/v1/completions", {"prompt": "Hi", "max_tokens": 4}),
    ("/v1/messages", {"messages": MESSAGES, "max_tokens": 4}),
    ("/v1/responses", {"input": "Hi", "max_output_tokens": 16}),
]
CASES = [(path, {**body, "stream": stream}) for path, body in ROUTES for stream in (False, True)]
EMBEDDINGS = ("/v1/embeddings", {"input": "Hi"})
PHASE = re.compile(r"^the engine (is|has) [a-z][\w' ]+(\(\d+ s so far(, (about|at least) \d+ s left)?\))?; try again")
# The machine may be slow while an engine loads on it; a hang is 600 s.
AT_ONCE = 15


@dataclass
class Answer:
    path: str
    status: int
    retry_after: str | None
    text: str
    seconds: float

    @property
    def message(self) -> str:
        error = json.loads(self.text)["error"]
        return str(error["message"])


def ask(stack: Stack, path: str, body: dict[str, Any]) -> Answer:
    request = urllib.request.Request(
        stack.url + path,
        json.dumps({"model": "vllm_agent", **body}).encode(),
        {"Authorization": "Bearer sk-FAKE", "Content-Type": "application/json"},
    )
    began = time.monotonic()
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            status, headers, text = answer.status, answer.headers, answer.read().decode()
    except urllib.error.HTTPError as error:
        status, headers, text = error.code, error.headers, error.read().decode()
    return Answer(path, status, headers["Retry-After"], text, time.monotonic() - began)


def check_away(answer: Answer) -> None:
    """503 in the API's own shape, naming a phase, at once."""
    assert answer.status == 503, answer
    assert answer.retry_after is not None, answer
    assert 1 <= int(answer.retry_after) <= 5, answer
    assert PHASE.match(answer.message), answer
    assert answer.seconds < AT_ONCE, answer
    body = json.loads(answer.text)
    assert (body.get("type") == "error") == (answer.path == "/v1/messages")


@pytest.mark.only("native", reason="in containers test_fault_table.py does it, with figures")
def test_the_engine_is_away_until_it_is_ready(stack: Stack) -> None:
    assert all(ask(stack, *case).status == 200 for case in CASES)
    os.kill(stack.pids()["engine"], signal.SIGKILL)
    check_away(ask(stack, *EMBEDDINGS))
    messages, ready = [], False
    deadline = time.monotonic() + PATIENCE
    while not ready and time.monotonic() < deadline:
        answers = [ask(stack, *case) for case in CASES]
        away = [answer for answer in answers if answer.status != 200]
        for answer in away:
            check_away(answer)
        messages += [answer.message for answer in away]
        ready = not away
    assert ready
    assert any("loading the model" in message for message in messages), set(messages)
    # Both of the engine's processes have told: its core what it does, its server that it begins.
    assert any("starting Python and vLLM" in message for message in messages), set(messages)
    # This model has been started here before.
    assert any(" s left)" in message for message in messages), set(messages)
    assert phase_of(stack).endswith(" ready\n")


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_mistake_of_the_client_stays_one(stack: Stack, case: tuple[str, dict[str, Any]]) -> None:
    path, body = case
    answer = ask(stack, path, {**body, "model": "no-such-model"})
    assert 400 <= answer.status < 500, answer
    answer = ask(stack, path, {**body, "temperature": "warm"})
    assert 400 <= answer.status < 500, answer
    assert answer.retry_after is None


def stream(stack: Stack, path: str, body: dict[str, Any]) -> Any:
    """A long stream whose first line has been read."""
    limit = "max_output_tokens" if path == "/v1/responses" else "max_tokens"
    request = urllib.request.Request(
        stack.url + path,
        json.dumps({limit: ENDLESS, "ignore_eos": True, **body, "model": "vllm_agent", "stream": True}).encode(),
        {"Authorization": "Bearer sk-FAKE", "Content-Type": "application/json"},
    )
    answer = urllib.request.urlopen(request, timeout=60)
    answer.readline()
    return answer


@pytest.mark.only("native", reason="in containers test_fault_table.py does it, with figures")
def test_draining(stack: Stack) -> None:
    """New requests are sent away while one that was under way finishes."""
    pid = stack.pids()["engine"]
    core = core_of(pid)
    try:
        with stream(stack, "/v1/chat/completions", {"messages": MESSAGES, "max_tokens": SHORT}) as under_way:
            with frozen(core):
                os.kill(pid, signal.SIGTERM)
                wait_for(lambda: "stopping" in phase_of(stack), "the engine to say that it stops")
                shown = stack.status()
                assert (shown["state"], shown["requests"]["running"]) == ("draining", 1), shown
                for case in CASES:
                    check_away(ask(stack, *case))
            rest = under_way.read().decode()
    finally:  # until then it still answers the question whether the stack is ready for the next test
        wait_for_another(stack, pid)
    assert '"finish_reason":"length"' in rest.replace(" ", "")


@pytest.mark.only("native", reason="in containers test_fault_table.py does it, with figures")
def test_streams_that_break_end_with_an_error(stack: Stack) -> None:
    """Not as if they were complete."""
    pid = stack.pids()["engine"]
    with contextlib.ExitStack() as open_streams:
        endless = [(path, {key: value for key, value in body.items() if key[:3] != "max"}) for path, body in ROUTES]
        under_way = {case[0]: open_streams.enter_context(stream(stack, *case)) for case in endless}
        os.kill(pid, signal.SIGKILL)
        rests = {path: answer.read().decode()[-2000:] for path, answer in under_way.items()}
    assert [path for path, rest in rests.items() if '"error"' not in rest] == [], rests
    assert [path for path, rest in rests.items() if "DONE" in rest and path != "/v1/responses"] == [], rests
    wait_for_another(stack, pid)


def wait_for_another(stack: Stack, pid: int) -> None:
    """Until another engine is ready; the one that ends still answers `status` for a moment."""
    wait_for(lambda: stack.pids()["engine"] not in (0, pid), "another engine")
    stack.wait_ready()


def phase_of(stack: Stack) -> str:
    return stack.generated("phase")

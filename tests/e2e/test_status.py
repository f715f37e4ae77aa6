"""`status` under a load says what clients see, and `logs` finds a request in gateway and engine by the id its client got.

What it says in each fault is in the tests of the faults: test_faults.py, test_loading.py, test_fault_table.py.
"""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import select
import signal
import subprocess
import threading
import urllib.request
from collections import Counter
from typing import Any

import pytest

from harness import PATIENCE, REPOSITORY, Stack, wait_for
from load import ask
from streams import endless

# Programs in the background of a shell ignore Ctrl-C, and so do those they start.
INTERRUPTIBLE = ["env", "--default-signal=INT"]
HI: dict[str, Any] = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 4}
# Route, what is asked, and whether LiteLLM takes it apart instead of handing it on.
REQUESTS = [
    pytest.param("/v1/chat/completions", HI, id="chat"),
    pytest.param("/v1/chat/completions", {**HI, "stream": True}, id="chat-streamed"),
    pytest.param("/v1/messages", HI, id="messages"),
    pytest.param("/v1/responses", {"input": "Hi", "max_output_tokens": 16}, id="responses"),
    pytest.param(
        "/v1/completions", {"prompt": "Hi", "max_tokens": 4, "cache": {"no-cache": True}}, id="ordinary-completions"
    ),
    pytest.param("/v1/responses", {"input": "Hi", "max_output_tokens": 16, "num_retries": 0}, id="ordinary-responses"),
]


@pytest.mark.both
def test_under_load_it_says_what_clients_see(stack: Stack) -> None:
    before = stack.status()
    assert before["state"] == "ready"
    assert before["requests"] == {"running": 0, "waiting": 0, "preempted": before["requests"]["preempted"]}
    with endless(stack, 20) as streams:
        assert Counter(stream.refused for stream in streams) == {0: 16, 429: 4}
        loaded = stack.status()
    assert loaded["state"] == "ready"
    assert loaded["requests"]["running"] + loaded["requests"]["waiting"] == loaded["gateway"]["under_way"] == 16
    assert loaded["requests"]["running"] >= 2
    assert loaded["tokens_per_second"]["generated"] > 0
    assert 0 < loaded["kv_cache"]["used"] <= 1
    wait_for(lambda: stack.requests_inside() == 0, "the engine to notice that the clients have left")
    after = stack.status()
    counted = {
        status: after["gateway"]["answered"].get(status, 0) - before["gateway"]["answered"].get(status, 0)
        for status in ("200", "429")
    }
    assert counted == {"200": 16, "429": 4}
    assert after["gateway"]["too_many"] == after["gateway"]["answered"]["429"]
    assert (after["requests"]["running"], after["requests"]["waiting"], after["gateway"]["under_way"]) == (0, 0, 0)
    first = after["ttft_seconds"]
    assert first["requests"] >= 16
    assert 0 < first["p50"] <= first["p95"]
    screen = stack.run("status").stdout
    assert re.search(r"^429s +[\d,]*[1-9]", screen, re.MULTILINE), screen
    assert "ready  requests are answered" in screen


@pytest.mark.both
@pytest.mark.parametrize(("path", "body"), REQUESTS)
def test_a_request_is_found_in_both_logs(stack: Stack, path: str, body: dict[str, Any]) -> None:
    request = urllib.request.Request(
        stack.url + path,
        json.dumps({"model": "vllm_agent", **body}).encode(),
        # Of these the gateway makes no use: somebody else's id must not stand for two requests.
        {"Authorization": "Bearer sk-FAKE", "Content-Type": "application/json", "X-Request-Id": "not-this-one"},
    )
    with urllib.request.urlopen(request, timeout=120) as answer:
        answer.read()
        name = answer.headers["x-request-id"]
        assert answer.headers["x-litellm-call-id"] == name
    assert re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", name)
    lines = stack.run("logs", "--request", name).stdout.splitlines()
    by_part = {part: [line for line in lines if line.startswith(part)] for part in ("engine", "gateway")}
    assert any("Received request" in line for line in by_part["engine"]), lines
    assert any(f'"POST {path} HTTP/1.1" 200' in line for line in by_part["gateway"]), lines


def test_logs_since_and_grep(stack: Stack) -> None:
    assert ask(stack).status == 200
    found = stack.run("logs", "gateway", "--since", "1m", "--grep", r'"POST /v1/chat/completions HTTP/1\.\d" 200').stdout
    assert len(found.splitlines()) >= 1
    nothing = stack.run("logs", "--since", "1m", "--grep", "no line says this", check=False)
    assert (nothing.returncode, nothing.stdout) == (1, "")
    assert stack.run("logs", "engin", check=False).returncode == 2


@pytest.mark.only("native", reason="the screen is the same")
def test_watching_on_a_terminal_until_ctrl_c(stack: Stack) -> None:
    ours, theirs = pty.openpty()
    environment = {**stack.env, "TERM": "xterm", "COLUMNS": "120", "LINES": "40"}
    command = [*INTERRUPTIBLE, str(REPOSITORY / "runMe.sh"), "status", "--watch", "0.5"]
    watching = subprocess.Popen(command, env=environment, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True)
    os.close(theirs)
    text = ""

    def shown(times: int) -> bool:
        nonlocal text
        while select.select([ours], [], [], 0.1)[0]:
            try:
                text += os.read(ours, 65536).decode(errors="replace")
            except OSError:  # it has ended
                break
        return text.count("every 0.5 s; Ctrl-C ends it") >= times

    try:
        wait_for(lambda: shown(3), "three looks")
        os.killpg(watching.pid, signal.SIGINT)
        wait_for(lambda: watching.poll() is not None, "it to end")
        shown(0)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(watching.pid, signal.SIGKILL)
        os.close(ours)
    assert watching.returncode == 0, text[-500:]
    assert "requests are answered" in text
    assert text.rstrip().endswith("\x1b[?25h") or "\x1b[?1049l" in text, "the terminal is given back as it was"
    assert "Traceback" not in text


@pytest.mark.both
def test_following_the_logs(stack: Stack) -> None:
    command = [*INTERRUPTIBLE, str(REPOSITORY / "runMe.sh"), "logs", "-f", "-n", "0", "--grep", "POST /v1/chat/completions"]
    following = subprocess.Popen(command, env=stack.env, stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert following.stdout is not None
    try:
        parts: set[str] = set()
        output = following.stdout
        reader = threading.Thread(target=lambda: parts.update(line.split()[0] for line in output), daemon=True)
        reader.start()
        wait_for(lambda: ask(stack).status == 200 and parts >= {"engine", "gateway"}, "lines of both")
        os.killpg(following.pid, signal.SIGINT)
        assert following.wait(PATIENCE) == 0
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(following.pid, signal.SIGKILL)

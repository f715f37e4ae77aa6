"""What is killed comes back by itself, and nothing else is touched; what is stopped loses nothing."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from harness import Stack, family, wait_for

BODY = {"model": "vllm_agent", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 4}
LONG: dict[str, Any] = {
    "model": "vllm_agent",
    "messages": [{"role": "user", "content": "Count."}],
    "max_tokens": 150,
    "extra_body": {"ignore_eos": True},
}


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except OSError:
        return True


def answers(stack: Stack) -> bool:
    return bool(stack.call("/v1/chat/completions", BODY)[0] == 200)


@pytest.mark.only("native", reason="in containers test_fault_table.py does it, with figures")
@pytest.mark.parametrize("part", ["database", "gateway", "engine"])
def test_a_killed_part_is_named_and_restarted_alone(stack: Stack, part: str) -> None:
    before = stack.pids()
    os.kill(before[part], signal.SIGKILL)
    wait_for(lambda: stack.pids()[part] != before[part], 30, f"status to show that the {part} is gone")
    entry = next(entry for entry in stack.status()["parts"] if entry["name"] == part)
    assert entry["restarts"] >= 1
    stack.wait_ready()
    after = stack.pids()
    assert after[part] != before[part]
    assert {name: pid for name, pid in after.items() if name != part} == {
        name: pid for name, pid in before.items() if name != part
    }
    wait_for(lambda: answers(stack), 60, "an answer")


@pytest.mark.only("native", reason="in containers test_fault_table.py does it, with figures")
def test_the_engines_core_killed_alone(stack: Stack) -> None:
    before = stack.pids()
    core = next(pid for pid, command in family(before["engine"]).items() if "EngineCore" in command)
    os.kill(core, signal.SIGKILL)
    wait_for(lambda: stack.pids()["engine"] != before["engine"], 60, "the engine to be started again")
    stack.wait_ready()
    assert stack.pids()["gateway"] == before["gateway"]
    wait_for(lambda: answers(stack), 60, "an answer")


def test_the_database_client_killed_alone(stack: Stack) -> None:
    before = stack.pids()
    bridges = [
        pid for pid, command in family(before["gateway"]).items() if "query-engine" in command or "main.mjs" in command
    ]
    assert bridges
    os.kill(bridges[0], signal.SIGKILL)
    wait_for(lambda: stack.run("status", check=False).returncode == 0, 90, "the gateway to reach its database again")
    assert answers(stack)
    assert {k: v for k, v in stack.pids().items() if k != "gateway"} == {k: v for k, v in before.items() if k != "gateway"}


@pytest.mark.only("native", reason="Docker itself watches its containers")
@pytest.mark.parametrize("watcher", ["supervisor", "guard"])
def test_a_killed_watcher_comes_back_and_touches_nothing(stack: Stack, watcher: str) -> None:
    before = stack.pids()
    pid_file = stack.root / "state" / "run" / f"{watcher}.pid"
    old = int(pid_file.read_text().split()[0])
    os.kill(old, signal.SIGKILL)
    wait_for(lambda: stack.status()["watchers"][watcher], 20, f"a new {watcher}")
    assert int(pid_file.read_text().split()[0]) != old
    assert stack.pids() == before
    assert answers(stack)


@pytest.mark.parametrize("part", ["engine", "gateway", "whole stack"])
def test_stopping_lets_an_open_stream_finish(stack: Stack, part: str) -> None:
    """SIGTERM to a part, or `./runMe.sh down`."""
    pids = stack.pids()
    pieces: list[str] = []
    errors: list[BaseException] = []

    def stream() -> None:
        try:
            for chunk in stack.openai().chat.completions.create(stream=True, **LONG):
                if chunk.choices and chunk.choices[0].finish_reason:
                    pieces.append(f"<{chunk.choices[0].finish_reason}>")
                elif chunk.choices:
                    pieces.append(chunk.choices[0].delta.content or "")
        except Exception as error:
            errors.append(error)

    client = threading.Thread(target=stream)
    client.start()
    wait_for(lambda: len(pieces) > 5, 60, "the stream to begin")
    if part in pids:
        os.kill(pids[part], signal.SIGTERM)
    else:
        stack.run("down")
    client.join(60)
    assert not errors
    assert pieces[-1] == "<length>"
    ending = [pids[part]] if part in pids else list(pids.values())
    wait_for(lambda: all(map(gone, ending)), 60, f"the {part} to end")
    if part not in pids:
        stack.run()
    stack.wait_ready()
    wait_for(lambda: answers(stack), 60, "an answer")


def test_down_leaves_no_process_and_loses_nothing(stack: Stack) -> None:
    made = stack.call("/key/generate", {}, key=stack.secret("LITELLM_MASTER_KEY"))[1]
    key = made["key"]
    assert stack.call("/v1/chat/completions", BODY, key=key)[0] == 200
    members = {member for pid in stack.pids().values() for member in family(pid)}
    watchers = [int(path.read_text().split()[0]) for path in (stack.root / "state" / "run").glob("*.pid")]
    assert len(members) > 3
    began = time.monotonic()
    stack.run("down")
    assert time.monotonic() - began < 60
    assert [pid for pid in (*members, *watchers) if not gone(pid)] == []
    assert all(part["state"] == "stopped" for part in stack.status()["parts"])
    # What was not yet written when it stopped is there as well.
    stack.run()
    with stack.database() as cursor:
        cursor.execute('SELECT count(*) FROM "LiteLLM_SpendLogs" WHERE api_key = %s', (made["token"],))
        assert cursor.fetchone() == (1,)
    assert stack.call("/v1/chat/completions", BODY, key=key)[0] == 200

"""What is killed comes back by itself, and nothing else is touched; what is stopped loses nothing."""

from __future__ import annotations

import json
import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from harness import CONTAINERS, Stack, core_of, docker, family, frozen, wait_for
from streams import SHORT, begun

BODY = {"model": "vllm_agent", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 4}


def gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except OSError:
        return True


def entry(stack: Stack, part: str) -> dict[str, Any]:
    """What status says of a part."""
    return next(dict(one) for one in stack.status()["parts"] if one["name"] == part)


def state(stack: Stack, part: str) -> str:
    return str(entry(stack, part)["state"])


def answers(stack: Stack) -> bool:
    return bool(stack.call("/v1/chat/completions", BODY)[0] == 200)


@pytest.mark.only("native", reason="in containers test_fault_table.py does it, with figures")
@pytest.mark.parametrize("part", ["database", "gateway", "engine"])
def test_a_killed_part_is_named_and_restarted_alone(stack: Stack, part: str) -> None:
    before = stack.pids()
    # Without the supervisor it stays away until all has been looked at.
    with frozen(int((stack.root / "state" / "run" / "supervisor.pid").read_text().split()[0])):
        os.kill(before[part], signal.SIGKILL)
        wait_for(lambda: gone(before[part]), f"the {part} to be gone")
        if part == "database":
            wait_for(lambda: state(stack, "gateway") == "degraded", "status to say that the gateway misses it")
            assert answers(stack), "a key that the gateway knows goes on to work"
        done = stack.run("status", "--json", check=False)
        shown = json.loads(done.stdout)
        assert (done.returncode, shown["state"]) == (1, "degraded" if part == "database" else "down"), shown
        states = {one["name"]: (one["state"], one["pid"]) for one in shown["parts"]}
        assert states.pop(part) == ("restarting", 0)
        assert all(pid == before[name] for name, (_, pid) in states.items())
        assert (shown["gateway"] is None) == (part == "gateway")
        assert (shown["requests"] is None) == (part == "engine")
    if part == "engine":
        wait_for(lambda: state(stack, part) == "starting", "status to say that it starts")
        wait_for(lambda: " s so far)" in entry(stack, part)["detail"], "what it does, and for how long")
    wait_for(lambda: entry(stack, part)["restarts"] >= 1, "the restart to be counted")
    stack.wait_ready()
    after = stack.pids()
    assert after[part] != before[part]
    assert {name: pid for name, pid in after.items() if name != part} == {
        name: pid for name, pid in before.items() if name != part
    }
    wait_for(lambda: answers(stack), "an answer")


@pytest.mark.only("native", reason="in containers test_fault_table.py does it, with figures")
def test_the_engines_core_killed_alone(stack: Stack) -> None:
    before = stack.pids()
    os.kill(core_of(before["engine"]), signal.SIGKILL)
    wait_for(lambda: stack.status()["state"] != "ready", "status to say that it is not ready")
    wait_for(lambda: stack.pids()["engine"] != before["engine"], "the engine to be started again")
    stack.wait_ready()
    assert stack.pids()["gateway"] == before["gateway"]
    wait_for(lambda: answers(stack), "an answer")


@pytest.mark.both
def test_the_database_client_killed_alone(stack: Stack) -> None:
    before = stack.pids()
    bridges = [
        pid for pid, command in family(before["gateway"]).items() if "query-engine" in command or "main.mjs" in command
    ]
    assert bridges
    os.kill(bridges[0], signal.SIGKILL)
    wait_for(lambda: stack.run("status", check=False).returncode == 0, "the gateway to reach its database again")
    assert answers(stack)
    assert {k: v for k, v in stack.pids().items() if k != "gateway"} == {k: v for k, v in before.items() if k != "gateway"}


@pytest.mark.only("native", reason="Docker itself watches its containers")
@pytest.mark.parametrize("watcher", ["supervisor", "guard"])
def test_a_killed_watcher_comes_back_and_touches_nothing(stack: Stack, watcher: str) -> None:
    before = stack.pids()
    pid_file = stack.root / "state" / "run" / f"{watcher}.pid"
    old = int(pid_file.read_text().split()[0])
    other = {"supervisor": "guard", "guard": "supervisor"}[watcher]
    with frozen(int(pid_file.with_name(f"{other}.pid").read_text().split()[0])):
        os.kill(old, signal.SIGKILL)
        wait_for(lambda: gone(old), f"the {watcher} to be gone")
        shown = stack.status()
        assert (shown["state"], shown["watchers"]) == ("degraded", {watcher: False, other: True})
        assert {one["state"] for one in shown["parts"]} == {"ready"}
    wait_for(lambda: stack.status()["watchers"][watcher], f"a new {watcher}")
    assert int(pid_file.read_text().split()[0]) != old
    assert stack.pids() == before
    assert answers(stack)


@pytest.mark.only("native", reason="in containers test_fault_table.py does it, with figures")
@pytest.mark.parametrize("part", ["engine", "gateway"])
def test_stopping_a_part_lets_an_open_stream_finish(stack: Stack, part: str) -> None:
    pids = stack.pids()
    pid, core = pids[part], core_of(pids["engine"])
    (stream,) = begun(stack, tokens=SHORT)
    with frozen(core):
        os.kill(pid, signal.SIGTERM)
        wait_for(lambda: state(stack, part) == "draining", f"status to say that the {part} finishes")
        assert stream.is_alive(), (stream.finish, stream.error)
    assert stream.has_all(), stream.error
    wait_for(lambda: gone(pid), f"the {part} to end")
    stack.wait_ready()
    wait_for(lambda: answers(stack), "an answer")


@pytest.mark.both
def test_down_finishes_what_is_open_leaves_no_process_and_loses_nothing(stack: Stack) -> None:
    made = stack.call("/key/generate", {}, key=stack.secret("LITELLM_MASTER_KEY"))[1]
    key = made["key"]
    assert stack.call("/v1/chat/completions", BODY, key=key)[0] == 200
    pids = stack.pids()
    members = {member for pid in pids.values() for member in family(pid)}
    watchers = [int(path.read_text().split()[0]) for path in (stack.root / "state" / "run").glob("*.pid")]
    assert len(members) > 3
    if stack.runtime == "docker":  # where compiled kernels are kept
        docker("exec", "--user", "1000", CONTAINERS["engine"], "sh", "-c", "mkdir -p ~/.cache && echo kept > ~/.cache/mark")
    core = core_of(pids["engine"])
    (stream,) = begun(stack, tokens=SHORT)
    with ThreadPoolExecutor(1) as pool:
        with frozen(core):
            down = pool.submit(stack.run, "down")
            wait_for(lambda: state(stack, "gateway") == "draining", "status to say that the gateway finishes")
            assert stream.is_alive(), (stream.finish, stream.error)
        began = time.monotonic()
        down.result()
    assert time.monotonic() - began < 60
    assert stream.has_all(), stream.error
    assert [pid for pid in (*members, *watchers) if not gone(pid)] == []
    shown = stack.status()
    assert {part["state"] for part in shown["parts"]} == {"stopped"}
    assert (shown["state"], shown["requests"], shown["gateway"]) == ("stopped", None, None)
    assert stack.run("status", check=False).returncode == 1
    # What was not yet written when it stopped is there as well.
    stack.run()
    if stack.runtime == "docker":
        assert docker("exec", CONTAINERS["engine"], "cat", "/home/vllm/.cache/mark").strip() == "kept"
    with stack.database() as cursor:
        cursor.execute('SELECT count(*) FROM "LiteLLM_SpendLogs" WHERE api_key = %s', (made["token"],))
        assert cursor.fetchone() == (1,)
    assert stack.call("/v1/chat/completions", BODY, key=key)[0] == 200

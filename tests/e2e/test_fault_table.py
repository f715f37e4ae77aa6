"""Faults of a running Docker stack, each with its figures; the table is printed at the end of the run.

Natively the same kills are in test_faults.py.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import time
import urllib.request
from collections import Counter
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from figures import record
from harness import CONTAINERS, Stack, core_of, docker, frozen, inspect, wait_for
from load import BODY, Load, Outcome, ask, crowd
from streams import SHORT, begun

pytestmark = pytest.mark.only("docker", reason="test_faults.py kills the native processes")
ENGINE, GATEWAY, DATABASE = CONTAINERS["engine"], CONTAINERS["gateway"], CONTAINERS["database"]


def kill(part: str) -> float:
    """SIGKILL to a container's first process, behind Docker's back; when."""
    os.kill(inspect(CONTAINERS[part])["State"]["Pid"], signal.SIGKILL)
    return time.monotonic()


def statuses(outcomes: list[Outcome]) -> str:
    return ", ".join(
        f"{count} x {status or 'no answer'}" for status, count in sorted(Counter(o.status for o in outcomes).items())
    )


def said_so(outcomes: list[Outcome]) -> None:
    """Nobody was told anything but that the engine is away, with when to come back; nobody hung."""
    for one in outcomes:
        assert one.status == 503, one
        assert int(one.retry_after) > 0, one
        assert one.seconds < 10, one


def until_served(load: Load) -> None:
    """Wait for ten good answers in a row, from now on."""
    before = len(load.outcomes)

    def good() -> bool:
        last = load.outcomes[before:][-10:]
        return len(last) == 10 and all(outcome.status == 200 for outcome in last)

    wait_for(good, "ten good answers in a row")


def key_of(stack: Stack, alias: str) -> tuple[str, str]:
    """A key of one test's own, and its hash."""
    made = stack.call("/key/generate", {"key_alias": f"{alias} {time.time()}"}, key=stack.secret("LITELLM_MASTER_KEY"))[1]
    return made["key"], made["token"]


def states(stack: Stack) -> dict[str, str]:
    """What status calls the parts, and the whole."""
    shown = stack.status()
    return {**{part["name"]: part["state"] for part in shown["parts"]}, "all": shown["state"]}


def spent(stack: Stack, token: str) -> tuple[int, int]:
    """Spend rows of a key, and how many different requests they are of."""
    with stack.database() as cursor:
        cursor.execute('SELECT count(*), count(DISTINCT request_id) FROM "LiteLLM_SpendLogs" WHERE api_key = %s', (token,))
        rows, requests = cursor.fetchone()
    return rows, requests


@pytest.mark.parametrize("what", ["engine", "engine core"])
def test_the_engine_is_killed_in_the_middle_of_a_stream(stack: Stack, what: str) -> None:
    others = {name: pid for name, pid in stack.pids().items() if name != "engine"}
    (stream,) = begun(stack)
    pid = inspect(ENGINE)["State"]["Pid"]
    victim = pid if what == "engine" else core_of(pid)
    with Load(stack, clients=2, pause=0.2) as load:
        os.kill(victim, signal.SIGKILL)
        moment = time.monotonic()
        # Docker starts it again within a second.
        wait_for(lambda: states(stack)["all"] in ("down", "starting"), "status to say that nobody is served")
        stream.join(30)
        assert stream.error, "the client has to see that its stream broke off"
        assert not stream.finish
        wait_for(lambda: inspect(ENGINE)["State"]["Pid"] not in (0, pid), "Docker to start it again")
        until_served(load)
    said_so([one for one in load.lost if one.began > moment])
    assert {name: pid for name, pid in stack.pids().items() if name != "engine"} == others
    seen = f"stream: {stream.error[:40]}; then {statuses(load.lost)}"
    record(f"{what} killed (SIGKILL) in mid-stream", load.recovered_after(moment), len(load.lost), len(load.outcomes), seen)


def test_postgresql_is_stopped_for_a_minute_under_load(stack: Stack) -> None:
    key, token = key_of(stack, "outage")
    assert ask(stack, key).status == 200
    strangers: list[Outcome] = []
    with Load(stack, clients=3, key=key, pause=0.1) as load:
        docker("stop", DATABASE)
        moment = time.monotonic()
        without = {"database": "stopped", "engine": "ready", "gateway": "degraded", "all": "degraded"}
        wait_for(lambda: states(stack) == without, "status to say what is missing")
        while time.monotonic() - moment < 60 or len(strangers) < 5:
            strangers.append(ask(stack, "sk-nobody-gave-out-this-key"))
        docker("start", DATABASE)
        until_served(load)
    assert not [one for one in strangers if one.status == 200], "an unknown key was let in"
    assert load.lost == [], statuses(load.lost)
    good = 1 + len([one for one in load.outcomes if one.status == 200])
    wait_for(lambda: spent(stack, token)[0] >= good, f"{good} spend rows")
    time.sleep(6)  # one more round of writing: nothing may come twice
    assert spent(stack, token) == (good, good)
    seen = f"unknown keys: {statuses(strangers)}; {good} requests, {good} spend rows"
    record("database stopped for 60 s", None, len(load.lost), len(load.outcomes), seen)


def test_the_gateway_is_killed(stack: Stack) -> None:
    key, token = key_of(stack, "gateway killed")
    others = {name: pid for name, pid in stack.pids().items() if name != "gateway"}
    with Load(stack, clients=2, key=key, pause=0.2) as load:
        wait_for(lambda: len(load.outcomes) > 10, "some answers")
        moment = kill("gateway")
        until_served(load)
    assert {one.status for one in load.lost} <= {0}, statuses(load.lost)
    assert {name: pid for name, pid in stack.pids().items() if name != "gateway"} == others
    good = len([one for one in load.outcomes if one.status == 200])
    time.sleep(12)
    rows, requests = spent(stack, token)
    assert rows == requests <= good
    # What it had not yet written (at most the last five seconds) is lost with it.
    assert good - rows <= 60
    seen = f"{statuses(load.lost)}; {good - rows} of {good} spend rows lost"
    record("gateway killed (SIGKILL)", load.recovered_after(moment), len(load.lost), len(load.outcomes), seen)


@pytest.mark.parametrize("part", CONTAINERS)
def test_any_one_container_is_restarted(stack: Stack, part: str) -> None:
    """While somebody edits: what is started again goes by what was last accepted."""
    before = stack.pids()
    fragment = stack.root / "models" / "smollm2-135m.yml"
    accepted = fragment.read_text()
    fragment.write_text(accepted.replace("  temperature: 0.2", "  tempurature: 0.2"))
    with Load(stack, clients=2, pause=0.2) as load:
        wait_for(lambda: len(load.outcomes) > 5, "some answers")
        moment = time.monotonic()
        docker("restart", CONTAINERS[part])
        until_served(load)
    after = stack.pids()
    assert after[part] != before[part]
    assert {k: v for k, v in after.items() if k != part} == {k: v for k, v in before.items() if k != part}
    config = stack.generated("config.yaml")
    assert "vllm_agent" in config
    assert "temperature: 0.2" in config
    fragment.write_text(accepted)
    stack.wait_ready()
    seen = statuses(load.lost) or "nothing"
    record(f"{part} restarted", load.recovered_after(moment), len(load.lost), len(load.outcomes), seen)


def test_all_three_are_killed(stack: Stack) -> None:
    with Load(stack, clients=2, pause=0.2) as load:
        wait_for(lambda: len(load.outcomes) > 5, "some answers")
        for part in CONTAINERS:
            moment = kill(part)
        until_served(load)
    assert "vllm_agent" in stack.generated("config.yaml"), "the configuration was in memory only and is made again"
    stack.wait_ready()
    record("all three killed", load.recovered_after(moment), len(load.lost), len(load.outcomes), statuses(load.lost))


def test_the_disk_of_the_state_folder_is_full(stack: Stack) -> None:
    if not (stack.root / "state").is_mount():
        pytest.skip("only root gives the stack a small disk of its own")
    before = stack.pids()
    filler = stack.root / "state" / "filler"
    with Load(stack, clients=2, pause=0.1) as load:
        try:
            fill(filler)
            done = stack.run(check=False, MAX_PARALLEL_REQUESTS="5")
            assert done.returncode == 1, done.stderr
            assert "No space left on device" in done.stderr
            assert "check space and permissions" in done.stderr
        finally:
            filler.unlink()
        wait_for(lambda: len(load.outcomes) > 5, "some answers")
    assert load.lost == []
    assert stack.pids() == before
    stack.run(MAX_PARALLEL_REQUESTS="5")
    record("disk of the state folder full during `up`", None, 0, len(load.outcomes), "nothing; `up` exits with 1")


def fill(path: Path) -> None:
    """Write until the disk is full."""
    with path.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(b"\0" * 65536):
            pass


def test_the_port_is_taken(stack: Stack) -> None:
    server = httpx_server()
    try:
        with Load(stack, clients=2, pause=0.1) as load:
            done = stack.run(check=False, LITELLM_PORT=str(server[1]))
        assert done.returncode == 2
        assert f"LITELLM_PORT={server[1]}: port {server[1]} on 127.0.0.1 is taken by another program" in done.stderr
        assert load.lost == []
        record("port taken by another program", None, 0, len(load.outcomes), "nothing; `up` exits with 2")
    finally:
        server[0].close()


def httpx_server() -> tuple[Any, int]:
    import socket

    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    return listener, listener.getsockname()[1]


def test_the_engine_runs_out_of_memory(stack: Stack) -> None:
    """The kernel kills it for its limit: the reason is named, and the release before comes back."""
    with Load(stack, clients=1, pause=0.5) as load:
        moment = time.monotonic()
        done = stack.run(check=False, ENGINE_MEMORY_LIMIT="700m")
        until_served(load)
    assert done.returncode == 1, done.stderr
    assert "out of memory" in done.stderr
    assert "smollm2-135m is served again" in done.stderr
    wait_for(lambda: states(stack)["all"] == "ready", "status to say that all is well again")
    assert inspect(ENGINE)["HostConfig"]["Memory"] == 0
    said_so(load.lost)
    record(
        "engine over its memory limit after `up`",
        load.recovered_after(moment),
        len(load.lost),
        len(load.outcomes),
        "the release before came back; " + statuses(load.lost),
    )


@pytest.mark.parametrize("part", ["engine", "gateway"])
def test_it_is_stopped_with_eight_open_streams(stack: Stack, part: str) -> None:
    pid, core = inspect(CONTAINERS[part])["State"]["Pid"], core_of(inspect(ENGINE)["State"]["Pid"])
    streams = begun(stack, 8, SHORT)
    load = Load(stack, clients=1, pause=0.3)
    with contextlib.ExitStack() as asking:
        with frozen(core):
            # Not by `docker kill` or `docker stop`, after which Docker takes it to be meant to stay away.
            os.kill(pid, signal.SIGTERM)
            moment = time.monotonic()
            asking.enter_context(load)
            drains = {part: "draining", "all": "draining"}
            wait_for(lambda: drains.items() <= states(stack).items(), f"status to say that the {part} finishes")
            assert all(stream.is_alive() for stream in streams), [(one.finish, one.error) for one in streams]
        assert [stream.has_all() for stream in streams] == [True] * 8, [stream.error for stream in streams]
        finished = time.monotonic()
        until_served(load)
    meanwhile = [one for one in load.outcomes if one.began < finished]
    refused = [one for one in meanwhile if one.status != 200]
    assert refused
    if part == "engine":
        said_so(refused)
    else:
        assert {one.status for one in refused} == {0}, statuses(refused)
    stack.wait_ready()
    record(
        f"{part} told to end (SIGTERM), 8 streams open",
        load.recovered_after(moment),
        0,
        8,
        f"all 8 finished; new ones meanwhile: {statuses(meanwhile)}",
    )


def test_a_wrong_edit_on_a_running_stack(stack: Stack) -> None:
    before = stack.pids()
    fragment = stack.root / "models" / "smollm2-135m.yml"
    fragment.write_text(fragment.read_text().replace("  temperature: 0.2", "  tempurature: 0.2"))
    with Load(stack, clients=2, pause=0.1) as load:
        done = stack.run(check=False)
    assert done.returncode == 2
    assert "did you mean temperature?" in done.stderr
    assert load.lost == []
    assert stack.pids() == before
    assert ask(stack).status == 200
    record("fragment in error on a running stack", None, 0, len(load.outcomes), "nothing; `up` exits with 2")


def test_the_gateways_clock_is_an_hour_ahead(stack: Stack) -> None:
    """By libfaketime, for that program alone: keys, limits and spend rows go on to be right."""
    library = docker("exec", GATEWAY, "sh", "-c", "ls /usr/lib/*/faketime/libfaketime.so.1").strip()
    path = next(entry for entry in inspect(GATEWAY)["Config"]["Env"] if entry.startswith("PATH="))
    program = docker("exec", GATEWAY, "sh", "-c", "command -v litellm").strip()
    skew = stack.root / "skew"
    skew.mkdir(exist_ok=True)
    # The library wants to be loaded first by the user that goes on with it: not by the entrypoint, which is root.
    (skew / "litellm").write_text(f'#!/bin/sh\nexport LD_PRELOAD={library} FAKETIME=+1h\nexec {program} "$@"\n')
    (skew / "litellm").chmod(0o755)
    override = stack.root / "docker-compose.override.yml"
    override.write_text(
        "services:\n  litellm:\n"
        f'    environment: {{PATH: "/skew:{path.removeprefix("PATH=")}"}}\n'
        f'    volumes: ["{skew}:/skew:ro"]\n'
    )
    try:
        stack.run()
        with urllib.request.urlopen(f"{stack.url}/health/liveliness", timeout=10) as answer:
            ahead = parsedate_to_datetime(answer.headers["Date"]).timestamp() - time.time()
        assert 3500 < ahead < 3700
        key, token = key_of(stack, "clock")
        with Load(stack, clients=4, key=key, pause=0.05) as load:
            wait_for(lambda: len(load.outcomes) >= 60, "sixty answers")
        assert load.lost == [], statuses(load.lost)
        good = len(load.outcomes)
        wait_for(lambda: spent(stack, token)[0] >= good, f"{good} spend rows")
        assert spent(stack, token) == (good, good)
        assert statuses(crowd(stack, lambda: ask(stack), 40, 24)) == "16 x 200, 24 x 429"
        with stack.database() as cursor:
            cursor.execute(
                'SELECT extract(epoch FROM max("startTime") - (now() AT TIME ZONE \'UTC\')) FROM "LiteLLM_SpendLogs" '
                "WHERE api_key = %s",
                (token,),
            )
            assert 3400 < float(cursor.fetchone()[0]) < 3700, "rows carry the gateway's own time"
        record("gateway's clock one hour ahead", None, 0, good, f"nothing; {good} requests, {good} spend rows")
    finally:
        override.unlink()


def at_once(stack: Stack, count: int, body: Any) -> list[Outcome]:
    """As many requests at the same moment."""

    async def one(client: httpx.AsyncClient) -> Outcome:
        began = time.monotonic()
        answer = await client.post("/v1/chat/completions", json=body, headers={"Authorization": "Bearer sk-FAKE"})
        return Outcome(
            began, time.monotonic() - began, answer.status_code, answer.headers.get("Retry-After", ""), answer.text[:300]
        )

    async def everyone() -> list[Outcome]:
        limits = httpx.Limits(max_connections=count, max_keepalive_connections=count)
        async with httpx.AsyncClient(base_url=stack.url, timeout=300, limits=limits, trust_env=False) as client:
            return list(await asyncio.gather(*(one(client) for _ in range(count))))

    return asyncio.run(everyone())


def test_a_thousand_at_once(stack: Stack) -> None:
    began = time.monotonic()
    outcomes = at_once(stack, 1000, {**BODY, "max_tokens": 100, "ignore_eos": True})
    seconds = time.monotonic() - began
    assert len(outcomes) == 1000
    others = [one for one in outcomes if one.status not in (200, 429)]
    assert others == []
    counted = Counter(one.status for one in outcomes)
    assert counted[200] >= 16
    assert counted[429] > 0
    assert ask(stack).status == 200
    record("1,000 requests at once over the limit of 16", None, 0, 1000, f"{statuses(outcomes)} in {seconds:.0f} s")


def test_the_machine_is_left_as_it_was(stack: Stack) -> None:
    """Last in this file: everything above has been put back."""
    assert stack.run("status").returncode == 0
    assert not (stack.root / "docker-compose.override.yml").exists()
    assert not Path(stack.root / "state" / "filler").exists()
    assert subprocess.run(["docker", "ps", "-q", "--filter", "health=unhealthy"], capture_output=True).stdout == b""

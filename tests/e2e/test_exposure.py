"""What can be reached from where, and what can be read by whom."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness import CONTAINERS, REPOSITORY, Stack, docker, inspect

pytestmark = pytest.mark.only("docker", reason="natively everything listens on loopback; there is no other network")
NEIGHBOUR = ("10.254.77.1", "10.254.77.2")


async def open_ports(address: str, ports: list[int]) -> list[int]:
    """Those that accept a connection."""
    slots = asyncio.Semaphore(500)

    async def probe(port: int) -> int | None:
        async with slots:
            try:
                _, writer = await asyncio.wait_for(asyncio.open_connection(address, port), 2)
            except (OSError, TimeoutError):
                return None
            writer.close()
            return port

    return [port for port in await asyncio.gather(*map(probe, ports)) if port]


def published(pid_name: str = "docker-proxy") -> set[tuple[str, int]]:
    """(address, port) of everything that Docker's proxy listens on."""
    found = set()
    for line in subprocess.run(["ss", "-H", "-ltnp"], capture_output=True, text=True, check=True).stdout.splitlines():
        if pid_name in line:
            address, _, port = line.split()[3].rpartition(":")
            found.add((address, int(port)))
    return found


def test_only_two_ports_are_published_and_only_on_loopback(stack: Stack) -> None:
    wanted = {("127.0.0.1", stack.port), ("127.0.0.1", stack.engine_port)}
    bound = set()
    for container in CONTAINERS.values():
        for bindings in (inspect(container)["HostConfig"]["PortBindings"] or {}).values():
            bound |= {(binding["HostIp"], int(binding["HostPort"])) for binding in bindings}
    assert bound == wanted
    assert wanted <= published()


@pytest.fixture
def neighbour() -> Iterator[str]:
    """A network namespace beside this machine, joined to it by a cable of its own: another host's view."""
    name = "stack-neighbour"
    here, there = NEIGHBOUR
    commands = [
        f"ip netns add {name}",
        f"ip link add stack-cable type veth peer name eth0 netns {name}",
        f"ip address add {here}/24 dev stack-cable",
        "ip link set stack-cable up",
        f"ip -n {name} address add {there}/24 dev eth0",
        f"ip -n {name} link set eth0 up",
        f"ip -n {name} link set lo up",
        f"ip -n {name} route add default via {here}",
    ]
    if os.geteuid() != 0:
        pytest.skip("only root makes a network namespace")
    try:
        for command in commands:
            done = subprocess.run(command.split(), capture_output=True, text=True)
            assert done.returncode == 0, f"{command}: {done.stderr}"
        yield name
    finally:
        subprocess.run(["ip", "netns", "delete", name], capture_output=True)
        subprocess.run(["ip", "link", "delete", "stack-cable"], capture_output=True)


@pytest.fixture
def firewall() -> Iterator[None]:
    """The rule that docs/docker-runtime.md gives for engines before version 28, which have that hole themselves."""
    version = docker("version", "--format", "{{.Server.Version}}")
    documented = re.search(r"sudo iptables -I (DOCKER-USER .*)", (REPOSITORY / "docs" / "docker-runtime.md").read_text())
    assert documented
    rule = documented[1].split() if int(version.partition(".")[0]) < 28 else []
    if rule:
        subprocess.run(["iptables", "-I", *rule], check=True)
    yield
    if rule:
        subprocess.run(["iptables", "-D", *rule], check=True)


@pytest.mark.usefixtures("firewall")
def test_a_scan_from_another_host_finds_nothing_of_the_stack(stack: Stack, neighbour: str) -> None:
    """All ports of this machine, and the containers' own addresses by way of it; from this machine all goes on."""
    containers = [
        str(network["IPAddress"])
        for container in CONTAINERS.values()
        for network in inspect(container)["NetworkSettings"]["Networks"].values()
    ]
    assert len(containers) == 4
    script = f"""
import asyncio, json, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_exposure import open_ports
async def scan():
    found = {{{NEIGHBOUR[0]!r}: await open_ports({NEIGHBOUR[0]!r}, list(range(1, 65536)))}}
    for address in {containers!r}:
        found[address] = await open_ports(address, [4000, 5432, 8000])
    print(json.dumps(found))
asyncio.run(scan())
"""
    argv = ["ip", "netns", "exec", neighbour, sys.executable, "-c", script]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=300, env={**os.environ, "PYTHONSAFEPATH": "1"})
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert stack.port not in found[NEIGHBOUR[0]]
    assert stack.engine_port not in found[NEIGHBOUR[0]]
    ours = {port for _, port in published()}
    assert ours.isdisjoint(found[NEIGHBOUR[0]])
    for address in containers:
        assert found[address] == [], address
    body = {"model": "vllm_agent", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 4}
    assert stack.call("/v1/chat/completions", body)[0] == 200


def test_the_scan_would_find_an_open_port(neighbour: str) -> None:
    server = subprocess.Popen(
        [sys.executable, "-m", "http.server", "18765", "--bind", NEIGHBOUR[0]], stderr=subprocess.DEVNULL
    )
    try:
        code = f"import socket; socket.create_connection(({NEIGHBOUR[0]!r}, 18765), 5)"
        argv = ["ip", "netns", "exec", neighbour, sys.executable, "-c", code]
        tries = [subprocess.run(argv, capture_output=True).returncode for _ in range(20)]
        assert 0 in tries
    finally:
        server.terminate()
        server.wait()


def test_no_secret_is_in_an_image_or_a_process_list(stack: Stack) -> None:
    """Generated files, logs and `docker inspect`: test_usage.py."""
    secrets = [path.read_text().strip() for path in (stack.root / "secrets").iterdir() if path.name != "README.md"]
    assert len(secrets) >= 4
    processes = ""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                processes += (entry / "cmdline").read_bytes().decode(errors="replace")
    layers = "".join(docker("history", "--no-trunc", inspect(name)["Image"]) for name in CONTAINERS.values())
    for secret in secrets:
        assert secret not in processes
        assert secret not in layers
    # The key that everybody knows is no secret, but has no place in an engine's command line either.
    assert not re.search(r"--api-key", processes)

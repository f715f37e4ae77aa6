"""The running containers are what the architecture draws: names, networks, mounts, health, limits, rights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness import CONTAINERS, Stack, docker, family, inspect

pytestmark = pytest.mark.only("docker", reason="there are no containers")
NAMES = list(CONTAINERS.values())
ENGINE, GATEWAY, DATABASE = CONTAINERS["engine"], CONTAINERS["gateway"], CONTAINERS["database"]


def mounts(container: str) -> dict[str, dict[str, Any]]:
    return {mount["Destination"]: mount for mount in inspect(container)["Mounts"]}


def test_three_containers_run_and_nothing_else(stack: Stack) -> None:
    running = docker("ps", "--filter", "label=com.docker.compose.project=vllm-multi-model", "--format", "{{.Names}}")
    assert sorted(running.split()) == sorted(NAMES)


def test_what_people_edit_is_mounted_read_only(stack: Stack) -> None:
    seen = mounts(ENGINE)
    for name in ("models", "secrets", "scripts", "vars.env", "litellm_config.template.yaml", "releases", "weights"):
        assert seen[f"/app/{name}"]["RW"] is False, name
        failed = docker("exec", ENGINE, "sh", "-c", f"touch /app/{name}/x 2>&1 || touch /app/{name}", check=False)
        assert "Read-only" in failed, failed
    for name in ("secrets", "scripts"):
        assert mounts(GATEWAY)[f"/app/{name}"]["RW"] is False
    assert not any("docker.sock" in str(mount) for container in NAMES for mount in mounts(container).values())


def test_the_configuration_is_shared_in_memory(stack: Stack) -> None:
    engine, gateway = (mounts(name)["/app/generated_configs"] for name in (ENGINE, GATEWAY))
    assert engine["Name"] == gateway["Name"]
    assert engine["RW"]
    assert gateway["RW"]
    assert docker("exec", GATEWAY, "stat", "-f", "-c", "%T", "/app/generated_configs").strip() == "tmpfs"
    path = "/app/generated_configs/config.yaml"
    assert docker("exec", GATEWAY, "cat", path) == docker("exec", ENGINE, "cat", path)


def test_what_is_kept_is_in_volumes_and_the_cache_is_the_users(stack: Stack) -> None:
    assert mounts(DATABASE)["/var/lib/postgresql/data"]["Name"].endswith("postgres_data")
    assert mounts(ENGINE)["/home/vllm"]["Name"].endswith("vllm_cache")
    cache = mounts(ENGINE)["/home/vllm/.cache/huggingface"]
    assert (cache["Source"], cache["RW"]) == (stack.env["HF_HOME"], True)


def test_engine_and_gateway_meet_on_a_bridge_and_the_database_stands_apart(stack: Stack) -> None:
    networks = {name: set(inspect(name)["NetworkSettings"]["Networks"]) for name in NAMES}
    assert networks[ENGINE] == {"vllm-multi-model_default"}
    assert networks[DATABASE] == {"vllm-multi-model_database"}
    assert networks[GATEWAY] == networks[ENGINE] | networks[DATABASE]
    assert inspect("vllm-multi-model_default")["Driver"] == "bridge"
    assert inspect("vllm-multi-model_database")["Internal"] is True
    probe = "import socket; socket.create_connection(('{}', 5432), 3)"
    docker("exec", GATEWAY, "python3", "-c", probe.format("db"))
    address = stack.database_address()[0]
    for host in ("db", address):
        assert "error" in docker("exec", ENGINE, "python3", "-c", probe.format(host), check=False).lower()


def test_health_checks_are_those_of_the_architecture(stack: Stack) -> None:
    for name in NAMES:
        assert inspect(name)["State"]["Health"]["Status"] in ("healthy", "starting")
    # The engine's, run now: it looks for the configuration and for vllm_agent behind the key.
    docker("exec", ENGINE, "/app/scripts/healthcheck.sh")
    docker("exec", ENGINE, "mv", "/app/generated_configs/config.yaml", "/app/generated_configs/away")
    try:
        assert inspect(ENGINE)["Config"]["Healthcheck"]["Test"] == ["CMD", "/app/scripts/healthcheck.sh"]
        with pytest.raises(AssertionError):
            docker("exec", ENGINE, "/app/scripts/healthcheck.sh")
    finally:
        docker("exec", ENGINE, "mv", "/app/generated_configs/away", "/app/generated_configs/config.yaml")
    assert "/health/liveliness" in str(inspect(GATEWAY)["Config"]["Healthcheck"]["Test"])
    assert inspect(DATABASE)["Config"]["Healthcheck"]["Test"] == ["CMD-SHELL", "pg_isready -d litellm -U llmproxy"]
    # The gateway's entry waits for the engine's files, not for its load.
    config = docker("inspect", "--format", '{{index .Config.Labels "com.docker.compose.depends_on"}}', GATEWAY)
    assert "db:service_healthy" in config
    assert "vllm-node" not in config


@pytest.mark.parametrize("container", NAMES)
def test_containers_have_no_more_rights_than_they_need(stack: Stack, container: str) -> None:
    host = inspect(container)["HostConfig"]
    assert host["ReadonlyRootfs"] is True
    assert host["CapDrop"] == ["ALL"]
    assert host["SecurityOpt"] == ["no-new-privileges:true"]
    assert host["Privileged"] is False
    assert host["PidsLimit"] > 0
    assert host["RestartPolicy"]["Name"] == "unless-stopped"
    assert host["LogConfig"]["Config"] == {"max-size": "50m", "max-file": "3"}
    assert (host["Memory"] > 0) is (container != ENGINE), "the engine's limit is the user's to set"
    assert host["PidMode"] == ""
    assert host["IpcMode"] in ("private", "")
    allowed = {
        ENGINE: {"CHOWN", "DAC_OVERRIDE", "SETGID", "SETPCAP", "SETUID"},
        GATEWAY: {"DAC_READ_SEARCH", "SETGID", "SETUID"},
    }
    assert {name.removeprefix("CAP_") for name in host["CapAdd"] or ()} == allowed.get(container, set())


@pytest.mark.parametrize(("container", "user"), [(ENGINE, 1000), (GATEWAY, 65532), (DATABASE, 999)])
def test_no_process_is_root_or_has_a_capability(stack: Stack, container: str, user: int) -> None:
    pids = family(inspect(container)["State"]["Pid"])
    assert pids
    for pid in pids:
        status = dict(line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":\t" in line)
        assert status["Uid"].split() == [str(user)] * 4, pids[pid]
        assert int(status["CapEff"], 16) == 0, pids[pid]
        assert status["NoNewPrivs"] == "1", pids[pid]


def test_the_engine_sees_none_but_its_own_secrets(stack: Stack) -> None:
    """It runs as the owner of the weights, who may well own all secrets."""
    assert docker("exec", ENGINE, "ls", "/app/secrets").split() == ["VLLM_API_KEY"]
    assert "Permission denied" in docker("exec", "--user", "1000", ENGINE, "cat", "/app/secrets/VLLM_API_KEY", check=False)


def test_the_engine_has_what_it_needs(stack: Stack) -> None:
    host = inspect(ENGINE)["HostConfig"]
    assert host["ShmSize"] == 1 << 30
    assert {limit["Name"]: limit["Soft"] for limit in host["Ulimits"]} == {"stack": 64 << 20}
    assert not host["DeviceRequests"], "the CPU file asks for no GPU"
    command = docker("exec", ENGINE, "sh", "-c", "tr '\\0' '\\n' </app/generated_configs/engine.argv").split()
    assert "NCCL_IB_DISABLE=1" in command
    assert "NCCL_ENABLE_SO_RCLO=1" in command
    environment = Path(f"/proc/{inspect(ENGINE)['State']['Pid']}/environ").read_bytes().split(b"\0")
    assert b"NCCL_IB_DISABLE=1" in environment


def test_the_engine_drains_before_it_is_killed(stack: Stack) -> None:
    for name in (ENGINE, GATEWAY):
        assert inspect(name)["Config"]["StopTimeout"] > 20

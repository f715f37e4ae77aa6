"""The compose files say what the architecture says; `docker compose config` accepts them where there is a Compose."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from stack.runtime.services import LITELLM_ENV
from stack.settings import BY_KEY

REPOSITORY = Path(__file__).resolve().parents[2]
FILES = ("docker-compose.yml", "docker-compose.cpu.yml")


class Loader(yaml.SafeLoader):
    """Knows Compose's own tags."""


Loader.add_constructor("!reset", lambda loader, node: None)


def load(name: str) -> dict[str, Any]:
    return dict(yaml.load((REPOSITORY / name).read_text(), Loader))


STACK = load("docker-compose.yml")
SERVICES: dict[str, dict[str, Any]] = STACK["services"]


def test_the_three_containers() -> None:
    names = {name: service["container_name"] for name, service in SERVICES.items()}
    assert names == {"vllm-node": "vllm-container", "litellm": "litellm", "db": "litellm_db"}


def test_every_published_port_is_on_loopback_unless_asked() -> None:
    ports = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert ports == ["127.0.0.1:${ENGINE_PORT:-8000}:8000", "${BIND_ADDRESS:-127.0.0.1}:${LITELLM_PORT:-4000}:4000"]


def test_what_people_edit_is_mounted_read_only() -> None:
    mounts = SERVICES["vllm-node"]["volumes"]
    for name in ("models", "secrets", "scripts", "vars.env", "litellm_config.template.yaml"):
        assert f"./{name}:/app/{name}:ro" in mounts
    for service in ("vllm-node", "litellm"):
        assert "litellm_config:/app/generated_configs" in SERVICES[service]["volumes"]
    assert STACK["volumes"]["litellm_config"]["driver_opts"]["type"] == "tmpfs"


def test_defaults_are_those_of_the_table_of_settings() -> None:
    text = (REPOSITORY / FILES[0]).read_text() + (REPOSITORY / FILES[1]).read_text()
    found = re.findall(r"\$\{([A-Z_]+):-([^}]*)\}", text)
    assert len(found) > 8
    for key, default in found:
        if key in BY_KEY:
            assert default == BY_KEY[key].default, key


def test_the_gateway_has_the_same_environment_in_both_runtimes() -> None:
    environment = SERVICES["litellm"]["environment"]
    assert {key: environment[key] for key in LITELLM_ENV} == LITELLM_ENV


def test_gpus_are_asked_for_except_in_the_cpu_file() -> None:
    devices = SERVICES["vllm-node"]["deploy"]["resources"]["reservations"]["devices"]
    assert devices == [{"driver": "nvidia", "count": "all", "capabilities": ["gpu"]}]
    assert load("docker-compose.cpu.yml")["services"]["vllm-node"]["deploy"] is None


@pytest.mark.parametrize("name", SERVICES)
def test_containers_are_hardened_and_watched(name: str) -> None:
    service = SERVICES[name]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["cap_drop"] == ["ALL"]
    assert service["restart"] == "unless-stopped"
    assert "healthcheck" in service
    assert "privileged" not in service
    assert "docker.sock" not in str(service)


@pytest.mark.parametrize("files", [FILES[:1], FILES], ids=["gpu", "cpu"])
def test_compose_accepts_them(files: tuple[str, ...]) -> None:
    if not shutil.which("docker") or subprocess.run(["docker", "compose", "version"], capture_output=True).returncode:
        pytest.skip("there is no Docker Compose on this machine")
    names = [word for name in files for word in ("-f", name)]
    done = subprocess.run(["docker", "compose", *names, "config", "-q"], cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr

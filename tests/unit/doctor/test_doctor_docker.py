"""Docker, by clients that print what real ones do."""

from __future__ import annotations

import pytest

from stack.doctor.finding import FAULT, NONE, OK, WARNING
from stack.runtime.layout import REPOSITORY
from tests.unit.doctor.machines import Machine, says

DOWN = "Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?"
DENIED = (
    "permission denied while trying to connect to the Docker daemon socket at unix:///var/run/docker.sock: "
    'Get "http://%2Fvar%2Frun%2Fdocker.sock/v1.47/info": dial unix /var/run/docker.sock: connect: permission denied'
)
INFO = {"ServerVersion": "28.5.1", "DockerRootDir": "/var/lib/docker", "Runtimes": {"runc": {}}}
PROJECT = "com.docker.compose.project=vllm-multi-model"


@pytest.fixture
def docker(machine: Machine) -> Machine:
    """A machine on which Docker is what the user wants."""
    machine.environ["RUNTIME"] = "docker"
    return machine


def test_no_client(docker: Machine) -> None:
    says(docker.find("Docker engine"), FAULT, "docker is not installed", cure="install it")
    docker.environ["RUNTIME"] = "auto"
    says(docker.find("Docker engine"), NONE, "docker is not installed", "native runtime is used")


def test_engine_does_not_run(docker: Machine) -> None:
    docker.docker(error=DOWN)
    says(docker.find("Docker engine"), FAULT, "engine is not running", cure="systemctl enable --now docker")
    docker.environ["RUNTIME"] = "auto"
    says(docker.find("Docker engine"), WARNING, "engine is not running", "native runtime is used", cure="systemctl")
    docker.environ["RUNTIME"] = "native"
    says(docker.find("Docker engine"), NONE, "RUNTIME=native")


def test_no_right_to_the_socket(docker: Machine) -> None:
    docker.docker(error=DENIED)
    says(docker.find("Docker engine"), FAULT, "may not use", "socket", cure="usermod -aG docker")


def test_engine_of_another_host_does_not_answer(docker: Machine) -> None:
    docker.environ["DOCKER_HOST"] = "tcp://10.0.0.9:2375"
    docker.docker(error=DOWN.replace("unix:///var/run/docker.sock", "tcp://10.0.0.9:2375"))
    says(docker.find("Docker engine"), FAULT, "DOCKER_HOST=tcp://10.0.0.9:2375", cure="unset DOCKER_HOST")
    docker.docker(INFO)
    says(docker.find("Docker engine"), WARNING, "another machine's engine", cure="unset DOCKER_HOST")


def test_engine_hangs(docker: Machine) -> None:
    docker.program("docker", "exec /bin/sleep 60")
    docker.changes["seconds"] = 0.3
    says(docker.find("Docker engine"), FAULT, "did not end within 0.3 s", cure="systemctl restart docker")


def test_client_and_engine_do_not_fit(docker: Machine) -> None:
    docker.docker(error="Error response from daemon: client version 1.50 is too new. Maximum supported API version is 1.41")
    says(docker.find("Docker engine"), FAULT, "client version 1.50 is too new", cure="same version")


def test_podman(docker: Machine) -> None:
    docker.docker({"host": {"buildahVersion": "1.33.7"}, "store": {}})
    says(docker.find("Docker engine"), FAULT, "Podman", cure="RUNTIME=native")


def test_old_engines(docker: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    docker.docker({**INFO, "ServerVersion": "19.03.15"})
    says(docker.find("Docker engine"), FAULT, "19.03.15", "20.10", cure="upgrade")
    docker.docker({**INFO, "ServerVersion": "24.0.9"})
    says(docker.find("Docker engine"), WARNING, "24.0.9", "reach published ports", cure="docs/docker-runtime.md")
    docker.docker(INFO)
    says(docker.find("Docker engine"), OK, "28.5.1")


def test_engine_too_old_for_the_compose_file(docker: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    (docker.folder / "docker-compose.yml").write_text("services:\n  db:\n    healthcheck:\n      start_interval: 1s\n")
    monkeypatch.setattr("stack.doctor.docker.REPOSITORY", docker.folder)
    docker.docker({**INFO, "ServerVersion": "24.0.9"})
    says(docker.find("Docker engine"), FAULT, "24.0.9", "start_interval", cure="25")


def test_compose(docker: Machine) -> None:
    docker.docker(INFO, compose="")
    docker.program("docker-compose", "echo 1.29.2")
    says(docker.find("Docker Compose"), FAULT, "no compose plugin", "version 1", cure="docker-compose-plugin")
    docker.docker(INFO, compose="v2.17.3")
    says(docker.find("Docker Compose"), FAULT, "v2.17.3", "2.24", cure="install it")
    docker.docker(INFO, compose="2.26.1-4")
    says(docker.find("Docker Compose"), OK, "2.26.1")


def test_auto_takes_native_without_compose(docker: Machine) -> None:
    docker.environ["RUNTIME"] = "auto"
    docker.docker(INFO, compose="")
    says(docker.find("Docker Compose"), WARNING, "native runtime is used", cure="install it")
    says(docker.find("configuration"), OK, "runtime native")
    docker.docker(INFO)
    says(docker.find("configuration"), OK, "runtime docker")


def test_container_toolkit(docker: Machine) -> None:
    docker.card()
    docker.docker(INFO)
    says(docker.find("NVIDIA container toolkit"), FAULT, "no runtime nvidia", cure="nvidia-ctk runtime configure")
    docker.docker({**INFO, "Runtimes": {"runc": {}, "nvidia": {}}})
    says(docker.find("NVIDIA container toolkit"), OK, "runtime nvidia")
    docker.docker({**INFO, "DiscoveredDevices": [{"Source": "cdi", "ID": "nvidia.com/gpu=0"}]})
    says(docker.find("NVIDIA container toolkit"), OK, "CDI")


def test_containers_in_the_way(docker: Machine) -> None:
    ours = f"{PROJECT},com.docker.compose.service=db,com.docker.compose.project.working_dir={REPOSITORY}"
    docker.docker(INFO, ps=[{"Names": "litellm_db", "State": "running", "Labels": ours}])
    says(docker.find("containers"), OK, "1 of this stack")
    docker.docker(INFO, ps=[{"Names": "litellm", "State": "exited", "Labels": "maintainer=somebody, else"}])
    says(docker.find("containers"), FAULT, "not this stack's", "litellm", cure="docker rm -f litellm")
    other = f"{PROJECT},com.docker.compose.service=db,com.docker.compose.project.working_dir=/srv/other"
    docker.docker(INFO, ps=[{"Names": "litellm_db", "State": "running", "Labels": other}])
    says(docker.find("containers"), FAULT, "/srv/other", cure="stop it there first")
    old = f"{PROJECT},com.docker.compose.service=router,com.docker.compose.project.working_dir={REPOSITORY}"
    docker.docker(INFO, ps=[{"Names": "old_router", "State": "running", "Labels": old}])
    says(docker.find("containers"), WARNING, "old_router", "earlier version", cure="docker rm -f old_router")

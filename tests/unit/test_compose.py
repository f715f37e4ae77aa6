"""The compose files say what the architecture says; `docker compose config` accepts them where there is a Compose."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from stack import plan
from stack.releases import Releases
from stack.runtime import compose, containers, metrics, secret_files
from stack.runtime.layout import Layout
from stack.runtime.services import LITELLM_ENV
from stack.settings import BY_KEY, METRICS_PORTS

REPOSITORY = Path(__file__).resolve().parents[2]
FILES = ("docker-compose.yml", "docker-compose.cpu.yml")
TEXTS = [(REPOSITORY / name).read_text() for name in FILES]


class Loader(yaml.SafeLoader):
    """Knows Compose's own tags."""


Loader.add_constructor("!reset", lambda loader, node: None)


def _overridden(loader: Loader, node: yaml.MappingNode | yaml.SequenceNode) -> Any:
    if isinstance(node, yaml.SequenceNode):
        return loader.construct_sequence(node, deep=True)
    return loader.construct_mapping(node, deep=True)


Loader.add_constructor("!override", _overridden)


def load(name: str) -> dict[str, Any]:
    return dict(yaml.load((REPOSITORY / name).read_text(), Loader))


STACK = load("docker-compose.yml")
SERVICES: dict[str, dict[str, Any]] = STACK["services"]
LASTING = [name for name in SERVICES if name != "setup"]
CPU = load("docker-compose.cpu.yml")["services"]
ENGINE = SERVICES["vllm-node"]


def mounts(service: str) -> dict[str, tuple[str, str]]:
    """Target -> (source, options) of a service's mounts."""
    found = {}
    for text in SERVICES[service].get("volumes", []):
        # A default may have a colon in it, but none of ours has.
        source, target, *options = re.sub(r"\$\{(\w+):-([^}]*)\}", r"<\1=\2>", text).split(":")
        found[target] = (source, options[0] if options else "rw")
    return found


def seconds(text: str) -> float:
    """60s -> 60."""
    assert text.endswith("s")
    return float(text.removesuffix("s"))


def default_of(text: str) -> str:
    """${VAR:-default}rest -> defaultrest."""
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text)


def test_the_containers() -> None:
    names = {name: service["container_name"] for name, service in SERVICES.items()}
    assert names == {
        "vllm-node": "vllm-container",
        "litellm": "litellm",
        "db": "litellm_db",
        "setup": "litellm_setup",
        "chat": "litellm_chat",
        **metrics.CONTAINERS,
    }
    known = dict([*containers.CONTAINERS.values(), containers.CHAT_CONTAINER, *metrics.CONTAINERS.items()])
    assert {service: name for service, name in names.items() if service != "setup"} == known


def test_the_chat_page_is_there_only_when_asked_for() -> None:
    assert {name: service["profiles"] for name, service in SERVICES.items() if "profiles" in service} == {
        "chat": ["chat"],
        **{name: ["metrics"] for name in metrics.CONTAINERS},
    }
    assert compose.CHAT_PROFILE == ("--profile", "chat")
    for name in SERVICES:
        assert "chat" not in SERVICES[name].get("depends_on", {})
    # Nor is it kept from starting by what it talks to, and it is told as what it is seen from outside.
    assert set(SERVICES["chat"]["depends_on"]) == {"setup"}
    environment = SERVICES["chat"]["environment"]
    assert {key for key in environment if key.startswith("CHAT_")} == {
        "CHAT_ADDRESS",
        "CHAT_PORT",
        "CHAT_LOGIN",
        "CHAT_DATA",
    }
    assert SERVICES["chat"]["ports"] == [
        f"{environment['CHAT_ADDRESS']}:{environment['CHAT_PORT']}:{environment['LISTEN_PORT']}"
    ]
    assert environment["LOCAL_KEY"] == SERVICES["litellm"]["environment"]["LOCAL_KEY"]


def test_every_published_port_is_on_loopback_unless_asked() -> None:
    ports = {name: service.get("ports", []) for name, service in SERVICES.items()}
    assert ports == {
        "vllm-node": ["127.0.0.1:${ENGINE_PORT:-8000}:8000"],
        "litellm": ["${BIND_ADDRESS:-127.0.0.1}:${LITELLM_PORT:-4000}:4000"],
        "db": [],
        "setup": [],
        "chat": ["${CHAT_ADDRESS:-127.0.0.1}:${CHAT_PORT:-3000}:8080"],
        "prometheus": ["127.0.0.1:${PROMETHEUS_PORT:-9090}:9090"],
        "grafana": ["127.0.0.1:${GRAFANA_PORT:-3001}:3000"],
        "postgres-exporter": [],
        "node-exporter": [],
        "gpu-exporter": [],
    }


def test_the_database_is_reached_by_the_gateway_and_its_exporter_only() -> None:
    networks = {name: service.get("networks", ["default"]) for name, service in SERVICES.items() if name != "setup"}
    assert networks == {
        "vllm-node": ["default"],
        "litellm": ["default", "database"],
        "db": ["database"],
        "chat": ["default"],
        "prometheus": ["default", "metrics"],
        "grafana": ["default", "metrics"],
        "postgres-exporter": ["database", "metrics"],
        "node-exporter": ["metrics"],
        "gpu-exporter": ["metrics"],
    }
    assert STACK["networks"]["database"] == STACK["networks"]["metrics"] == {"internal": True}
    assert SERVICES["setup"]["network_mode"] == "none"
    assert "networks" not in SERVICES["setup"]


@pytest.mark.parametrize("name", SERVICES)
def test_containers_are_hardened(name: str) -> None:
    service = SERVICES[name]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["cap_drop"] == ["ALL"]
    assert service["read_only"] is True
    assert 0 < service["pids_limit"] <= 8192
    assert service["logging"] == {"driver": "json-file", "options": {"max-size": "50m", "max-file": "3"}}
    assert service["mem_limit"]
    assert not {"privileged", "pid", "ipc", "userns_mode", "devices"} & set(service)
    assert "docker.sock" not in str(service)


@pytest.mark.parametrize("name", LASTING)
def test_what_lasts_is_watched_and_comes_back(name: str) -> None:
    service = SERVICES[name]
    assert service["restart"] == "unless-stopped"
    assert set(service["healthcheck"]) >= {"test", "interval", "timeout", "retries"}
    assert service["healthcheck"]["test"][0] in ("CMD", "CMD-SHELL")
    assert service["depends_on"]["setup"] == {"condition": "service_completed_successfully"}


def test_setup_runs_once() -> None:
    setup = SERVICES["setup"]
    assert setup["restart"] == "no"
    assert not {"healthcheck", "ports", "depends_on"} & set(setup)
    assert setup["image"] == SERVICES["litellm"]["image"]  # nothing more to be pulled
    assert (REPOSITORY / setup["entrypoint"][0].removeprefix("/app/")).stat().st_mode & 0o111


def test_each_user_and_what_it_may_do() -> None:
    rights = {name: (service["user"], service.get("cap_add", [])) for name, service in SERVICES.items()}
    assert rights == {
        "vllm-node": ("0:0", ["CHOWN", "DAC_OVERRIDE", "SETGID", "SETPCAP", "SETUID"]),
        "litellm": ("0:0", ["DAC_READ_SEARCH", "SETGID", "SETUID"]),
        "db": ("999:999", []),
        "chat": ("65532:65532", []),
        "setup": ("0:0", ["CHOWN", "DAC_OVERRIDE", "FOWNER"]),
        "prometheus": ("65534:65534", []),
        "grafana": ("472:0", []),
        "postgres-exporter": ("999:999", []),
        "node-exporter": ("65534:65534", []),
        "gpu-exporter": ("65534:65534", []),
    }
    # Root only until the secrets are read: both entries then become another user.
    assert ENGINE["environment"]["ENGINE_USER"] == "${ENGINE_USER:-auto}"
    assert not SERVICES["litellm"]["environment"]["GATEWAY_USER"].startswith("0:")


def test_memory_is_limited_where_the_need_is_known() -> None:
    limits = {name: service["mem_limit"] for name, service in SERVICES.items()}
    assert limits == {
        "vllm-node": "${ENGINE_MEMORY_LIMIT:-0}",
        "litellm": "4g",
        "db": "2g",
        "setup": "256m",
        "chat": "2g",
        "prometheus": "1g",
        "grafana": "1g",
        "postgres-exporter": "128m",
        "node-exporter": "128m",
        "gpu-exporter": "256m",
    }


@pytest.mark.parametrize("name", ["vllm-node", "litellm"])
def test_requests_have_time_to_finish(name: str) -> None:
    grace = seconds(default_of(SERVICES[name]["stop_grace_period"]))
    assert grace > int(BY_KEY["ENGINE_SHUTDOWN_TIMEOUT"].default)
    assert "STOP_GRACE_PERIOD" in SERVICES[name]["stop_grace_period"]


def test_the_database_stops_without_waiting_for_clients() -> None:
    assert (SERVICES["db"]["stop_signal"], SERVICES["db"]["stop_grace_period"]) == ("SIGINT", "60s")


def test_what_people_edit_is_mounted_read_only() -> None:
    assert {target: source for target, (source, options) in mounts("vllm-node").items() if options == "ro"} == {
        "/app/models": "./models",
        "/app/secrets": "engine_secrets",
        "/app/scripts": "./scripts",
        "/app/vars.env": "./vars.env",
        "/app/litellm_config.template.yaml": "./litellm_config.template.yaml",
        "/app/releases": "<RELEASES_DIR=./models>",
        "/app/weights": "<WEIGHTS_DIR=./models>",
    }


def test_what_each_container_may_write() -> None:
    written = {
        name: {target for target, (_, options) in mounts(name).items() if options == "rw"}
        | {text.split(":")[0] for text in SERVICES[name].get("tmpfs", [])}
        for name in SERVICES
    }
    assert written == {
        "vllm-node": {"/app/generated_configs", "/home/vllm", "/home/vllm/.cache/huggingface", "/tmp"},
        "litellm": {"/app/generated_configs", "/tmp"},
        "db": {"/var/lib/postgresql/data", "/tmp", "/var/run/postgresql"},
        "setup": {"/app/secrets", "/run/engine", "/run/password", "/run/chat", "/run/metrics"},
        "chat": {"/data", "/tmp"},
        "prometheus": {"/prometheus"},
        "grafana": {"/var/lib/grafana", "/tmp"},
        "postgres-exporter": set(),
        "node-exporter": set(),
        "gpu-exporter": set(),
    }
    assert {options for name in SERVICES for _, options in mounts(name).values()} == {"ro", "rw"}


def test_secrets_are_seen_where_they_are_needed_and_nowhere_in_the_environment() -> None:
    assert [name for name in SERVICES if "/app/secrets" in mounts(name)] == ["vllm-node", "litellm", "setup"]
    assert mounts("db")["/run/password"] == ("database_password", "ro")
    assert mounts("setup")["/run/password"] == ("database_password", "rw")
    # The chat page's key is copied into its own volume.
    assert mounts("chat")["/data"] == mounts("setup")["/run/chat"] == ("chat_data", "rw")
    # The engine may run as the owner of all secrets, so it gets only its own.
    assert mounts("vllm-node")["/app/secrets"] == ("engine_secrets", "ro")
    assert mounts("setup")["/run/engine"] == ("engine_secrets", "rw")
    # Prometheus and Grafana get a file each, the exporter PostgreSQL's copy.
    for name in ("prometheus", "grafana"):
        assert mounts(name)["/run/metrics"] == ("metrics_secrets", "ro")
    assert mounts("setup")["/run/metrics"] == ("metrics_secrets", "rw")
    assert mounts("postgres-exporter") == {"/run/password": ("database_password", "ro")}
    assert SERVICES["postgres-exporter"]["user"] == SERVICES["db"]["user"]
    exporter = SERVICES["postgres-exporter"]["environment"]
    assert exporter["DATA_SOURCE_PASS_FILE"] == SERVICES["db"]["environment"]["POSTGRES_PASSWORD_FILE"]
    names = {*secret_files.GENERATED, *secret_files.USER_GIVEN}
    for service in SERVICES.values():
        assert not names & set(service.get("environment", {}))
    assert not names & set(re.findall(r"\$\{?(\w+)", "".join(TEXTS)))


def test_generated_files_are_shared_in_memory_only() -> None:
    for name in ("vllm-node", "litellm"):
        assert mounts(name)["/app/generated_configs"] == ("litellm_config", "rw")
    options = STACK["volumes"]["litellm_config"]["driver_opts"]
    assert (options["type"], "size=16m" in options["o"]) == ("tmpfs", True)
    assert set(STACK["volumes"]) == {
        "litellm_config",
        "postgres_data",
        "vllm_cache",
        "database_password",
        "engine_secrets",
        "chat_data",
        "metrics_secrets",
        "prometheus_data",
        "grafana_data",
    }


def test_the_engine_decides_inside_what_is_planned_for_it() -> None:
    assert tuple(ENGINE["environment"]["STACK_SET"].splitlines()) == compose.INSIDE
    inside = dict(text.split("=", 1) for text in compose.INSIDE)
    environment = ENGINE["environment"]
    assert inside["HF_HOME"] == f"{environment['HOME']}/.cache/huggingface"
    assert mounts("vllm-node")[inside["HF_HOME"]] == ("<HF_HOME=~/.cache/huggingface>", "rw")
    assert mounts("vllm-node")[compose.WEIGHTS][1] == "ro"
    assert inside["ENGINE_URL"] == f"http://vllm-node:{inside['ENGINE_PORT']}"
    assert ENGINE["ports"][0].endswith(f":{inside['ENGINE_PORT']}")


def test_settings_that_the_engine_takes_over_are_settings() -> None:
    taken = {key for key, value in ENGINE["environment"].items() if value is None}
    assert taken - {"NCCL_IB_DISABLE", "HTTP_PROXY", "HTTPS_PROXY"} <= set(BY_KEY)
    assert {key for key in BY_KEY if key.startswith("LITELLM_")} - {"LITELLM_PORT", "LITELLM_IMAGE"} <= taken


def test_defaults_are_those_of_the_table_of_settings() -> None:
    found = re.findall(r"\$\{([A-Z_]+):-([^}$]*)\}", "".join(TEXTS))
    known = {key for key, _ in found} & set(BY_KEY)
    assert known == {
        "VLLM_IMAGE",
        "VLLM_CPU_IMAGE",
        "LITELLM_IMAGE",
        "POSTGRES_IMAGE",
        "ENGINE_USER",
        "ENGINE_MEMORY_LIMIT",
        "ENGINE_START_TIMEOUT",
        "ENGINE_SHUTDOWN_TIMEOUT",
        "ENGINE_PORT",
        "BIND_ADDRESS",
        "LITELLM_PORT",
        "LOCAL_KEY",
        "MAX_PARALLEL_REQUESTS",
        "MAX_REQUEST_SIZE",
        "HF_HOME",
        "CHAT_IMAGE",
        "CHAT_ADDRESS",
        "CHAT_PORT",
        "CHAT_LOGIN",
        "METRICS",
        *METRICS_PORTS,
        *compose.METRICS_IMAGES,
    }
    for key, default in found:
        if key in BY_KEY:
            assert default == BY_KEY[key].default, key
    # The value of one variable is the same wherever it stands.
    assert len({key for key, _ in found}) == len(set(found))


# What ./runMe.sh leaves to the default that stands in the file, and why.
LEFT_OUT = {
    "HF_ENDPOINT": "the caller's",
    "HF_HUB_OFFLINE": "the caller's, unless local weights are served",
    "VLLM_NODE_IMAGE": "an earlier release's image only",
    "MAX_PARALLEL_REQUESTS": "KEY_LIMIT stands before it",
    "ENGINE_SHUTDOWN_TIMEOUT": "DRAIN_SECONDS stands before it",
    "METRICS": "GATEWAY_METRICS stands before it",
}


def test_every_variable_is_given_or_has_a_default(root: Path, tmp_path: Path) -> None:
    layout = Layout(root, tmp_path / "state", tmp_path / "secrets", tmp_path / "envs")
    made = plan.make(root, {}, [], "minilm")
    release = Releases(layout.releases).propose(root, {}, [], made, "docker")
    given = set(compose.variables(made, made, release, layout, None))
    used = set(re.findall(r"\$\{(\w+)", "".join(TEXTS)))
    taken = {key for service in SERVICES.values() for key, value in service.get("environment", {}).items() if value is None}
    assert used - given == set(LEFT_OUT)
    assert given - used - taken == set(), "given for nothing"
    assert "MODEL" in given & taken
    # None may be without a default: `docker compose up` alone has to work.
    assert re.findall(r"\$\{\w+\}|\$\w+", "".join(TEXTS)) == []


def test_the_gateway_has_the_same_environment_in_both_runtimes() -> None:
    environment = SERVICES["litellm"]["environment"]
    assert {key: environment[key] for key in LITELLM_ENV} == LITELLM_ENV


def test_the_local_keys_state_is_where_it_is_looked_for() -> None:
    assert SERVICES["litellm"]["environment"]["LOCAL_KEY_STATE"] == containers.LOCAL_KEY_STATE


def test_gpus_are_asked_for_except_in_the_cpu_file() -> None:
    devices = ENGINE["deploy"]["resources"]["reservations"]["devices"]
    assert devices == [{"driver": "nvidia", "count": "all", "capabilities": ["gpu"]}]
    assert ENGINE["ulimits"] == {"memlock": -1, "stack": 67108864}
    assert set(CPU) == {"vllm-node", "gpu-exporter"}
    # No profile that is ever asked for.
    assert (CPU["gpu-exporter"]["profiles"], CPU["gpu-exporter"]["deploy"]) == (["gpu"], None)
    assert CPU["vllm-node"]["deploy"] is None
    assert CPU["vllm-node"]["ulimits"] == {"stack": 67108864}
    # Without its tag, Compose would merge the two instead.
    assert len(re.findall(r"^ *deploy: !reset null", TEXTS[1], re.M)) == 2
    assert re.search(r"^ *profiles: !override ", TEXTS[1], re.M)
    assert re.search(r"^ *ulimits: !override ", TEXTS[1], re.M)


@pytest.fixture(scope="module")
def resolve() -> Any:
    """What Compose makes of the files, with variables."""
    if not shutil.which("docker") or subprocess.run(["docker", "compose", "version"], capture_output=True).returncode:
        pytest.skip("there is no Docker Compose on this machine")

    def config(gpu: bool, *options: str, **variables: str) -> dict[str, Any]:
        env = {key: os.environ[key] for key in ("PATH", "HOME", "DOCKER_CONFIG") if key in os.environ}
        argv = compose.argv(Path("/nowhere"), gpu, *options, "config", "--format", "json")  # no override of somebody's
        done = subprocess.run(argv, env={**env, **variables}, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert "variable is not set" not in done.stderr
        return dict(json.loads(done.stdout)["services"])

    return config


@pytest.mark.parametrize("gpu", [True, False], ids=["gpu", "cpu"])
def test_compose_accepts_them(resolve: Any, gpu: bool) -> None:
    services = resolve(gpu)
    engine = services["vllm-node"]
    assert set(services) == set(SERVICES) - {"chat", *metrics.CONTAINERS}
    assert set(resolve(gpu, *compose.CHAT_PROFILE)) == set(services) | {"chat"}
    shown = resolve(gpu, *compose.METRICS_PROFILE)
    assert set(shown) == set(services) | set(metrics.services(gpu))
    for name in metrics.services(gpu):
        assert shown[name]["read_only"] is True
        assert (shown[name]["cap_drop"], shown[name]["security_opt"]) == (["ALL"], ["no-new-privileges:true"])
        assert {port["host_ip"] for port in shown[name].get("ports", [])} <= {"127.0.0.1"}
    assert ("deploy" in engine, "memlock" in engine["ulimits"]) == (gpu, gpu)
    assert engine["ulimits"]["stack"]
    assert (services["setup"]["network_mode"], "networks" in services["setup"]) == ("none", False)
    # Given without a value and not there: not in the container either.
    taken = {key for key, value in ENGINE["environment"].items() if value is None}
    assert {key for key, value in engine["environment"].items() if value is None} == taken
    assert all(service["read_only"] for service in services.values())


def test_compose_takes_the_limits(resolve: Any) -> None:
    engine = resolve(False, ENGINE_MEMORY_LIMIT="48g", STOP_GRACE_PERIOD="95s", ENGINE_START_TIMEOUT="77")["vllm-node"]
    assert int(engine["mem_limit"]) == 48 << 30
    assert engine["stop_grace_period"] == "1m35s"
    assert engine["healthcheck"]["start_period"] == "1m17s"


def test_compose_takes_what_is_empty_for_not_given(resolve: Any) -> None:
    engine = resolve(False, WEIGHTS_DIR="", STACK_MODEL_PATH="")["vllm-node"]
    (weights,) = [mount for mount in engine["volumes"] if mount["target"] == compose.WEIGHTS]
    assert weights["source"] == str(REPOSITORY / "models")
    assert engine["environment"]["STACK_MODEL_PATH"] == ""

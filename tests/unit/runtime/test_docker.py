"""How Compose is called: the files, and what the containers' specifications depend on. No Docker is needed."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from stack import plan
from stack.errors import ConfigError, DisturbedError
from stack.releases import Release, Releases
from stack.runtime import compose, containers, probe
from stack.runtime import images as runtime_images
from stack.runtime.docker import Docker
from stack.runtime.layout import REPOSITORY, Layout
from stack.runtime.report import Silent
from stack.settings import BY_KEY, is_setting

SERVICES: dict[str, Any] = yaml.safe_load((REPOSITORY / "docker-compose.yml").read_text())["services"]
CHAT, EMBEDDING = "chat", "minilm"
Variables = Callable[..., dict[str, str]]


def read_by(service: str) -> set[str]:
    """Variables that a service's specification is made of: ${VAR}, and environment variables without a value."""
    spec = {key: value for key, value in SERVICES[service].items() if key != "build"}  # no part of a container
    taken = {key for key, value in spec["environment"].items() if value is None}
    return taken | set(re.findall(r"\$\{(\w+)", yaml.safe_dump(spec)))


@pytest.fixture
def layout(root: Path, tmp_path: Path) -> Layout:
    """Folders, and a model that leaves every default as it is."""
    (root / "models" / f"{CHAT}.yml").write_text("command: vllm serve org/m --max-model-len 4096\n")
    return Layout(root, tmp_path / "state", tmp_path / "secrets", tmp_path / "envs")


@pytest.fixture
def accept(layout: Layout) -> Callable[..., Release]:
    """A release from a caller's environment and `--set` texts."""

    def run(environ: dict[str, str] | None = None, sets: list[str] | None = None, model: str = CHAT) -> Release:
        made = plan.make(layout.root, environ or {}, sets or [], model)
        return Releases(layout.releases).propose(layout.root, environ or {}, sets or [], made, "docker")

    return run


@pytest.fixture
def variables(layout: Layout, accept: Callable[..., Release]) -> Variables:
    """What Compose is given, for a caller."""

    def run(
        environ: dict[str, str] | None = None,
        sets: list[str] | None = None,
        model: str = CHAT,
        weights: Path | None = None,
        **facts: Any,
    ) -> dict[str, str]:
        release = accept(environ, sets, model)
        release = Releases(layout.releases).mark(release, "good", **facts) if facts else release
        inside = release.plan(compose.WEIGHTS if weights else "", compose.INSIDE)
        made = compose.variables(release.plan(), inside, release, layout, weights)
        return compose.environment({**(environ or {}), "PATH": "/bin"}, made)

    return run


def names_of_files(argv: list[str]) -> list[str]:
    return [argv[index + 1] for index, word in enumerate(argv) if word == "-f"]


def test_files_of_a_machine_with_and_without_a_gpu(layout: Layout) -> None:
    with_gpu, without = (compose.argv(layout.root, gpu, "up", "-d") for gpu in (True, False))
    assert names_of_files(with_gpu) == [str(REPOSITORY / "docker-compose.yml")]
    assert names_of_files(without) == [str(REPOSITORY / name) for name in ("docker-compose.yml", "docker-compose.cpu.yml")]
    for argv in (with_gpu, without):
        assert (argv[:2], argv[-2:]) == (["docker", "compose"], ["up", "-d"])
        assert argv[argv.index("--project-directory") + 1] == str(REPOSITORY)
        # An .env file that lies somewhere does not count.
        assert argv[argv.index("--env-file") + 1] == os.devnull


def test_override_of_the_users_own_comes_last(layout: Layout) -> None:
    own = layout.root / "docker-compose.override.yml"
    own.write_text("services: {}\n")
    assert names_of_files(compose.argv(layout.root, False, "up"))[-1] == str(own)
    assert len(names_of_files(compose.argv(layout.root, False, "up"))) == 3


def test_settings_of_the_caller_do_not_reach_compose_by_themselves() -> None:
    caller = {
        **dict.fromkeys(BY_KEY, "leaked"),
        "NCCL_DEBUG": "leaked",
        "VLLM_ANYTHING": "leaked",
        "VLLM_NODE_IMAGE": "leaked",
        "PATH": "/bin",
        "HF_ENDPOINT": "http://mirror",
        "DOCKER_HOST": "unix:///x",
    }
    assert compose.environment(caller, {"MODEL": "m"}) == {
        "PATH": "/bin",
        "HF_ENDPOINT": "http://mirror",
        "DOCKER_HOST": "unix:///x",
        "MODEL": "m",
    }


def test_variables_of_ours_that_the_caller_has_do_not_count(variables: Variables) -> None:
    names = {*read_by("vllm-node"), *read_by("litellm"), *read_by("db")} - {
        "HF_ENDPOINT",
        "HF_HUB_OFFLINE",
        "HTTP_PROXY",
        "HTTPS_PROXY",
    }
    plain = variables()
    leaked = variables({name: "leaked" for name in names if not is_setting(name)})
    assert {name for name in names if leaked.get(name) != plain.get(name)} == set()
    assert "leaked" not in leaked.values()


def test_values(variables: Variables, layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")
    found = variables(
        {"LITELLM_PORT": "4100", "ENGINE_PORT": "8100", "MAX_PARALLEL_REQUESTS": "3"},
        ["ENGINE_SHUTDOWN_TIMEOUT=60", "ENGINE_MEMORY_LIMIT=48G", "ENGINE_USER=1000:1000", "LOCAL_KEY=off"],
    )
    expected = {
        "MODEL": CHAT,
        "LITELLM_PORT": "4100",
        "ENGINE_PORT": "8100",
        "KEY_LIMIT": "3",
        "DRAIN_SECONDS": "60",
        "STOP_GRACE_PERIOD": "80s",
        "ENGINE_MEMORY_LIMIT": "48g",
        "ENGINE_USER": "1000:1000",
        "LOCAL_KEY": "false",
        "BIND_ADDRESS": "127.0.0.1",
        "HF_HOME": "/home/somebody/.cache/huggingface",
        "RELEASES_DIR": str(layout.releases),
        "SECRETS_DIR": str(layout.secrets),
        "WEIGHTS_DIR": "",
        "STACK_MODEL_PATH": "",
        "VLLM_IMAGE": BY_KEY["VLLM_IMAGE"].default,
    }
    assert {key: found.get(key) for key in expected} == expected
    assert "VLLM_NODE_IMAGE" not in found
    assert "HF_HUB_OFFLINE" not in found
    # The same names by the file alone, for those who call Compose themselves.
    assert set(expected) <= {*read_by("vllm-node"), *read_by("litellm"), "VLLM_IMAGE"}


@pytest.mark.parametrize("seconds", [0, 20, 600])
def test_containers_are_not_killed_while_requests_finish(variables: Variables, seconds: int) -> None:
    found = variables(sets=[f"ENGINE_SHUTDOWN_TIMEOUT={seconds}"])
    assert int(found["STOP_GRACE_PERIOD"].removesuffix("s")) >= int(found["DRAIN_SECONDS"]) + 10
    assert found["DRAIN_SECONDS"] == str(seconds)


def test_address_of_ip_version_6_stands_in_brackets(variables: Variables) -> None:
    assert variables({"BIND_ADDRESS": "::1"})["BIND_ADDRESS"] == "[::1]"


def test_local_weights(variables: Variables) -> None:
    found, hub = variables(weights=Path("/state/weights/m")), variables()
    assert (found["WEIGHTS_DIR"], found["STACK_MODEL_PATH"], found["HF_HUB_OFFLINE"]) == (
        "/state/weights/m",
        "/app/weights",
        "1",
    )
    assert found["ENGINE_DIGEST"] != hub["ENGINE_DIGEST"]


def test_image_of_the_fragment_and_of_an_earlier_release(variables: Variables, layout: Layout) -> None:
    (layout.root / "models" / "m.yml").write_text("command: vllm serve org/m\nimage: own/vllm:1\n")
    assert variables(model="m")["VLLM_IMAGE"] == "own/vllm:1"
    images = {"engine": {"name": "vllm-multi-model/vllm-node:abc", "id": "sha256:abc"}}
    assert variables(images=images, repeats=1)["VLLM_NODE_IMAGE"] == "vllm-multi-model/vllm-node:abc"


def test_a_release_that_runs_already_does_not_keep_its_image_from_being_built_anew(variables: Variables) -> None:
    images = {"engine": {"name": "vllm-multi-model/vllm-node:abc", "id": "sha256:abc"}}
    assert "VLLM_NODE_IMAGE" not in variables(images=images)


def test_digests_are_those_that_the_container_comes_to(variables: Variables, accept: Callable[..., Release]) -> None:
    release, found = accept(sets=["ENGINE_PORT=8100"]), variables(sets=["ENGINE_PORT=8100"])
    outside = release.plan()
    assert found["ENGINE_DIGEST"] == release.plan(overrides=compose.INSIDE).engine_digest
    assert outside.engine_digest != found["ENGINE_DIGEST"]
    # The published port is outside's business alone.
    assert variables()["ENGINE_DIGEST"] == found["ENGINE_DIGEST"]


def changed(before: dict[str, str], after: dict[str, str]) -> set[str]:
    return {key for key in {*before, *after} if before.get(key) != after.get(key)}


GATEWAY_ONLY = [
    ("MAX_PARALLEL_REQUESTS", "3", CHAT),
    ("LITELLM_REQUEST_TIMEOUT", "77", CHAT),
    ("LITELLM_NUM_RETRIES", "2", CHAT),
    ("LITELLM_MAX_TOKENS", "1K", CHAT),
    ("LITELLM_PORT", "4100", CHAT),
    ("LOCAL_KEY", "false", CHAT),
    ("POSTGRES_IMAGE", "postgres:other", CHAT),
    ("LITELLM_IMAGE", "litellm:other", CHAT),
    ("METRICS", "true", CHAT),
    ("GRAFANA_IMAGE", "grafana:other", CHAT),
    # vLLM has no sampling defaults for a model that does not generate.
    ("LITELLM_TEMPERATURE", "0.1", EMBEDDING),
    ("LITELLM_TOP_K", "7", EMBEDDING),
    # Of ./runMe.sh's own doing.
    ("ROLLBACK", "false", CHAT),
    ("RUNTIME", "docker", CHAT),
    ("WEIGHTS_SOURCE", "hub", CHAT),
]


@pytest.mark.parametrize("given", ["environment", "set"])
@pytest.mark.parametrize(("key", "value", "model"), GATEWAY_ONLY)
def test_engine_is_not_made_anew_for_what_does_not_concern_it(
    variables: Variables, key: str, value: str, model: str, given: str
) -> None:
    after = (
        variables({key: value}, model=model) if given == "environment" else variables(sets=[f"{key}={value}"], model=model)
    )
    assert changed(variables(model=model), after) & read_by("vllm-node") == set()


@pytest.mark.parametrize("name", ["MAX_PARALLEL_REQUESTS", "LITELLM_REQUEST_TIMEOUT", "LITELLM_MAX_TOKENS"])
def test_gateway_is_made_anew_for_what_concerns_it(variables: Variables, name: str) -> None:
    assert changed(variables(), variables({name: "5"})) & read_by("litellm") != set()


ENGINE_TOO = [
    # Also the engine's own defaults, for the routes on which the gateway adds none.
    ("LITELLM_TEMPERATURE", "0.1", {"ENGINE_DIGEST"}),
    ("NCCL_DEBUG", "INFO", {"ENGINE_DIGEST"}),
    ("ENGINE_LOG_REQUESTS", "true", {"ENGINE_DIGEST"}),
    ("ENGINE_SHUTDOWN_TIMEOUT", "7", {"ENGINE_DIGEST", "STOP_GRACE_PERIOD"}),
    ("ENGINE_MEMORY_LIMIT", "1g", {"ENGINE_MEMORY_LIMIT"}),
    ("ENGINE_USER", "5:5", {"ENGINE_USER"}),
    ("ENGINE_PORT", "8100", {"ENGINE_PORT"}),
    ("HF_HOME", "/cache", {"HF_HOME"}),
]


@pytest.mark.parametrize(("key", "value", "expected"), ENGINE_TOO)
def test_engine_is_made_anew_for_what_concerns_it(variables: Variables, key: str, value: str, expected: set[str]) -> None:
    assert changed(variables(), variables({key: value})) & read_by("vllm-node") == expected


@pytest.mark.parametrize("key", ["ENGINE_PORT", "LITELLM_PORT"])
def test_port_of_somebody_else_is_found_before_anything_starts(
    layout: Layout, accept: Callable[..., Release], monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    monkeypatch.setattr(containers, "inspect", dict)
    taken = 8000 if key == "ENGINE_PORT" else 4000
    monkeypatch.setattr(probe, "why_not_bind", lambda host, port: "is taken by another program" if port == taken else "")
    with pytest.raises(ConfigError) as caught:
        Docker(layout).check(accept().plan())
    assert [str(problem) for problem in caught.value.problems] == [
        f"error: {key}={taken}: port {taken} on 127.0.0.1 is taken by another program\n"
        f"  stop that program (ss -ltnp | grep :{taken}), or choose another port: {key}=..."
    ]


def test_ports_of_metrics_count_where_they_are_asked_for(
    layout: Layout, accept: Callable[..., Release], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(containers, "inspect", dict)
    monkeypatch.setattr(containers, "metrics_ports", set)
    taken = {3001, 9090}
    monkeypatch.setattr(probe, "why_not_bind", lambda host, port: "is taken by another program" if port in taken else "")
    Docker(layout).check(accept().plan())
    with pytest.raises(ConfigError) as caught:
        Docker(layout).check(accept({"METRICS": "true"}).plan())
    assert [problem.place for problem in caught.value.problems] == ["GRAFANA_PORT=3001", "PROMETHEUS_PORT=9090"]
    monkeypatch.setattr(containers, "metrics_ports", lambda: taken)
    Docker(layout).check(accept({"METRICS": "true"}).plan())


def test_metrics_are_started_by_their_profile(
    layout: Layout, accept: Callable[..., Release], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, ...]] = []
    monkeypatch.setattr(Docker, "_compose", lambda self, env, *arguments, report: asked.append(arguments))
    monkeypatch.setattr(containers, "unready_metrics", lambda wanted: [])
    docker = Docker(layout)
    docker.gpu = False
    layout.run.mkdir(parents=True)
    Releases(layout.releases).activate(accept({"METRICS": "true"}))
    docker.start_metrics({}, Silent())
    up = ("--profile", "metrics", "up", "-d", "--no-build")
    assert asked == [(*up, "prometheus", "grafana", "postgres-exporter", "node-exporter")]
    Releases(layout.releases).activate(accept({"METRICS": "false"}))
    with pytest.raises(DisturbedError):
        docker.start_metrics({}, Silent())


def test_ports_of_our_own_containers_are_not_taken(
    layout: Layout, accept: Callable[..., Release], monkeypatch: pytest.MonkeyPatch
) -> None:
    def container(part: str, port: int, folder: str = str(REPOSITORY)) -> containers.Container:
        bindings = {f"{port}/tcp": [{"HostIp": "127.0.0.1", "HostPort": str(port)}]}
        state = {"Running": True, "Restarting": False}
        labels = {"com.docker.compose.project.working_dir": folder}
        raw = {"State": state, "HostConfig": {"PortBindings": bindings}, "Config": {"Labels": labels}}
        return containers.Container(part, part, raw)

    there = {"engine": container("engine", 8000), "gateway": container("gateway", 4000)}
    monkeypatch.setattr(containers, "inspect", lambda: there)
    monkeypatch.setattr(probe, "why_not_bind", lambda host, port: "is taken by another program")
    Docker(layout).check(accept().plan())
    there.pop("gateway")
    with pytest.raises(ConfigError, match="LITELLM_PORT=4000"):
        Docker(layout).check(accept().plan())
    there["gateway"] = container("gateway", 4000, "/another/clone")
    with pytest.raises(ConfigError, match="the stack of /another/clone is on this engine"):
        Docker(layout).check(accept().plan())


def test_secret_behind_a_link_out_of_the_folder_is_refused(
    layout: Layout, accept: Callable[..., Release], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(containers, "inspect", dict)
    monkeypatch.setattr(probe, "why_not_bind", lambda host, port: "")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_text("hf_mine")
    layout.secrets.mkdir(exist_ok=True)
    (layout.secrets / "HF_TOKEN").symlink_to(elsewhere)
    with pytest.raises(ConfigError, match="secrets/HF_TOKEN: is a link out of the folder"):
        Docker(layout).check(accept().plan())
    (layout.secrets / "HF_TOKEN").unlink()
    (layout.secrets / "HF_TOKEN").symlink_to("kept")
    (layout.secrets / "kept").write_text("hf_mine")
    Docker(layout).check(accept().plan())


def test_secret_elsewhere_is_named_as_what_containers_cannot_see(
    layout: Layout, accept: Callable[..., Release], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(containers, "inspect", dict)
    monkeypatch.setattr(probe, "why_not_bind", lambda host, port: "")
    monkeypatch.setenv("HF_TOKEN_FILE", "/run/secrets/hf")
    with pytest.raises(ConfigError) as caught:
        Docker(layout).check(accept().plan())
    assert str(caught.value) == (
        "error: HF_TOKEN_FILE: containers see files in secrets/ only\n  copy the file to secrets/HF_TOKEN"
    )


@pytest.mark.parametrize(("now", "name"), [("sha256:abc", compose.NODE_IMAGE), ("sha256:new", "node:abc"), ("", "node:abc")])
def test_a_release_that_comes_back_starts_by_the_usual_name_of_the_same_image(
    accept: Callable[..., Release], monkeypatch: pytest.MonkeyPatch, now: str, name: str
) -> None:
    monkeypatch.setattr(runtime_images, "output", lambda argv: now)
    images = {"engine": {"name": "node:abc", "id": "sha256:abc"}, "gateway": {"name": "litellm", "id": "sha256:1"}}
    found = runtime_images.to_start(replace(accept(), images=images)).images
    assert found == {**images, "engine": {"name": name, "id": "sha256:abc"}}


def test_images_that_no_release_has_lose_their_names(
    layout: Layout, accept: Callable[..., Release], monkeypatch: pytest.MonkeyPatch
) -> None:
    repository = "vllm-multi-model/vllm-node"
    images = {"engine": {"name": f"{repository}:kept", "id": "sha256:kept"}}
    Releases(layout.releases).mark(accept(), "good", images=images)
    monkeypatch.setattr(
        runtime_images, "output", lambda argv: f"{repository}:kept\n{repository}:old\n{compose.NODE_IMAGE}\n"
    )
    called: list[list[str]] = []
    monkeypatch.setattr(subprocess, "run", lambda argv, **_: called.append(argv))
    runtime_images.forget(Releases(layout.releases).all())
    assert called == [["docker", "image", "rm", f"{repository}:old"]]

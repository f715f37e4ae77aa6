"""`docker compose up -d` in a fresh clone, without runMe.sh: what readers of the compose file expect to work."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import standins
from harness import CONTAINERS, QUESTION, REPOSITORY, Stack, docker, inspect, wait_for

# The last two for `--profile metrics`.
SECRETS = {
    *("LITELLM_MASTER_KEY", "LITELLM_SALT_KEY", "VLLM_API_KEY", "POSTGRES_PASSWORD"),
    *("METRICS_API_KEY", "GRAFANA_ADMIN_PASSWORD"),
}
pytestmark = pytest.mark.only("docker", reason="there are no containers")


def clone(target: Path) -> Path:
    """The files of this repository that are, or would be, under version control."""
    listed = subprocess.run(
        ["git", "-C", str(REPOSITORY), "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        capture_output=True,
        check=True,
    )
    for name in listed.stdout.decode().split("\0"):
        if name and (REPOSITORY / name).exists():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(REPOSITORY / name, target / name)
    return target


@pytest.fixture
def plain(started: Stack, tmp_path: Path) -> Iterator[tuple[Path, dict[str, str]]]:
    """A fresh clone and an environment for Compose; the weights lie ready, as the hub cannot be asked for them."""
    started.run("down")
    weights = next(
        path for path in (Path(started.env["ENVS_DIR"]) / "weights").glob("smollm2-135m-*") if (path / ".complete").exists()
    )
    root = clone(tmp_path / "clone")
    cache = tmp_path / "huggingface"
    cache.mkdir()
    env = {
        **os.environ,
        **standins.build(),
        "MODEL": "smollm2-135m",
        "COMPOSE_FILE": "docker-compose.yml:docker-compose.cpu.yml",
        "COMPOSE_PROJECT_NAME": "plain",
        "LITELLM_PORT": str(started.port),
        "ENGINE_PORT": str(started.engine_port),
        "HF_HOME": str(cache),
        "WEIGHTS_DIR": str(weights),
        "STACK_MODEL_PATH": "/app/weights",
        "HF_HUB_OFFLINE": "1",
    }
    try:
        yield root, env
    finally:
        compose(root, env, "down", "--volumes", "--timeout", "5")


def compose(root: Path, env: dict[str, str], *arguments: str) -> str:
    done = subprocess.run(
        ["docker", "compose", *arguments], cwd=root, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def test_compose_up_in_a_fresh_clone(plain: tuple[Path, dict[str, str]], started: Stack) -> None:
    root, env = plain
    assert sorted(path.name for path in (root / "secrets").iterdir()) == ["README.md"]
    compose(root, env, "up", "-d")
    made = {path.name: path for path in (root / "secrets").iterdir() if path.name != "README.md"}
    assert set(made) == SECRETS
    owner = (root / "secrets").stat().st_uid
    for path in made.values():
        assert (stat.S_IMODE(path.stat().st_mode), path.stat().st_uid) == (0o600, owner)

    body = {"model": "smollm2-135m", "temperature": 0, "messages": [{"role": "user", "content": QUESTION}]}
    seen: list[tuple[int, object]] = []

    def answered() -> bool:
        seen.append(started.call("/v1/chat/completions", body))
        return seen[-1][0] == 200

    wait_for(answered, f"an answer; last: {seen[-1:]}")
    assert "Paris" in str(seen[-1][1])
    # Before: no gateway, no key yet, or an engine that loads.
    assert {status for status, _ in seen} <= {0, 200, 401, 503}

    before = {part: inspect(name)["State"]["Pid"] for part, name in CONTAINERS.items()}
    compose(root, env, "up", "-d", "--wait")
    assert {part: inspect(name)["State"]["Pid"] for part, name in CONTAINERS.items()} == before

    # A fragment in error and a restart: the last good configuration goes on.
    fragment = root / "models" / "smollm2-135m.yml"
    fragment.write_text(fragment.read_text().replace("temperature: 0.2", "tempurature: 0.2"))
    docker("restart", CONTAINERS["engine"])
    wait_for(lambda: started.call("/v1/chat/completions", body)[0] == 200, "an answer after the restart")
    log = docker("logs", CONTAINERS["engine"])
    assert "did you mean temperature?" in log
    assert "going on with the last good one" in log


def test_an_unknown_model_ends_the_engine_with_the_names_there_are(plain: tuple[Path, dict[str, str]]) -> None:
    root, env = plain
    compose(root, {**env, "MODEL": "smollm"}, "up", "-d", "--no-deps", "setup", "vllm-node")
    wait_for(lambda: "did you mean smollm2-135m?" in docker("logs", CONTAINERS["engine"]), "the engine's message")

"""Shared fixtures: an environment without settings, a root to change, fragments and decisions from text."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from stack import fragment, settings, sources, yaml_source

REPOSITORY = Path(__file__).resolve().parents[2]
SCRIPTS = REPOSITORY / "scripts"
SECRETS = ("HF_TOKEN", "ANTHROPIC_AUTH_TOKEN", "LITELLM_MASTER_KEY", "LITELLM_SALT_KEY", "VLLM_API_KEY", "POSTGRES_PASSWORD")
FOLDERS = (
    "STACK_ROOT",
    "STATE_DIR",
    "SECRETS_DIR",
    "ENVS_DIR",
    "CONFIG_DIR",
    "STACK_SET",
    "STACK_DIGEST",
    "STACK_MODEL_PATH",
)
FRAGMENT = "command: vllm serve some/model --max-model-len 4096\n"


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No setting, secret or folder of the caller's reaches a test."""
    for name in list(os.environ):
        known = name in settings.BY_KEY or name in FOLDERS or name.removesuffix("_FILE") in SECRETS
        if known or name.startswith(settings.PASS_THROUGH_PREFIXES):
            monkeypatch.delenv(name)
    monkeypatch.setenv("PYTHONPATH", str(SCRIPTS))
    monkeypatch.setenv("STACK_PYTHON", sys.executable)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A copy of what the stack reads: vars.env, models/, the template; and no secrets."""
    folder = tmp_path / "root"
    folder.mkdir()
    shutil.copytree(REPOSITORY / "models", folder / "models")
    for name in ("vars.env", "litellm_config.template.yaml"):
        shutil.copy(REPOSITORY / name, folder / name)
    return folder


@pytest.fixture
def document() -> Callable[..., yaml_source.Document]:
    """YAML text to a document named models/m.yml."""

    def load(text: str, name: str = "models/m.yml") -> yaml_source.Document:
        return yaml_source.load(text, name)

    return load


@pytest.fixture
def make_fragment(document: Callable[..., yaml_source.Document]) -> Callable[..., fragment.Fragment]:
    """YAML text to a validated fragment named m."""

    def parse(text: str = FRAGMENT) -> fragment.Fragment:
        return fragment.parse(document(text))

    return parse


@pytest.fixture
def decide(make_fragment: Callable[..., fragment.Fragment]) -> Callable[..., settings.Resolved]:
    """All layers as text to decisions."""

    def resolve(
        text: str = FRAGMENT,
        *,
        overrides: Mapping[str, str] | None = None,
        environment: Mapping[str, str] | None = None,
        local: str = "",
        shared: str = "",
    ) -> settings.Resolved:
        layers = sources.Sources(
            {key: sources.Entry(value, "--set") for key, value in (overrides or {}).items()},
            {key: sources.Entry(value, "environment") for key, value in (environment or {}).items()},
            (sources.parse_vars(local, "vars.local.env"), sources.parse_vars(shared, "vars.env")),
        )
        return settings.resolve(layers, (make_fragment(text),))

    return resolve

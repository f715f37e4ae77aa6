"""The stack that the end-to-end tests share; see harness.py."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest

from harness import REPOSITORY, Stack


@pytest.fixture(scope="session")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The stack after its first start."""
    stack = Stack(tmp_path_factory.mktemp("stack"))
    try:
        stack.run()
        yield stack
    finally:
        stack.run("down", check=False)


@pytest.fixture
def stack(started: Stack) -> Stack:
    """The stack, ready, serving smollm2-135m with the configuration as shipped."""
    for name in ("vars.env", "litellm_config.template.yaml"):
        shutil.copy(REPOSITORY / name, started.root / name)
    shutil.copytree(REPOSITORY / "models", started.root / "models", dirs_exist_ok=True)
    started.run()
    return started

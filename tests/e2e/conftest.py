"""The stack that the end-to-end tests share; see harness.py."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import figures
import standins
from harness import DockerStack, Stack, docker


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--runtime", choices=("native", "docker"), default="native", help="what the stack runs on")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "only(runtime, reason): what the other runtime cannot do, or need not do twice")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    runtime = config.getoption("--runtime", default="native")
    for item in items:
        for mark in item.iter_markers("only"):
            if mark.args[0] != runtime:
                item.add_marker(pytest.mark.skip(reason=mark.kwargs["reason"]))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if figures.ROWS:
        terminalreporter.section("faults of the Docker stack")
        for line in figures.table():
            terminalreporter.write_line(line)


@pytest.fixture(scope="session")
def started(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """The stack after its first start."""
    root = tmp_path_factory.mktemp("stack")
    if request.config.getoption("--runtime", default="native") == "docker":
        there = docker("ps", "-a", "--filter", "label=com.docker.compose.project=vllm-multi-model", "-q")
        assert not there, "a stack runs on this Docker engine, and the tests would take it away: ./runMe.sh down"
        stack: Stack = DockerStack(root)
        stack.env |= standins.build()
    else:
        stack = Stack(root)
    try:
        stack.run()
        yield stack
    finally:
        stack.run("down", check=False)
        stack.close()
        if stack.runtime == "docker":
            docker("volume", "prune", "--force", "--filter", "label=com.docker.compose.project=vllm-multi-model")


@pytest.fixture
def stack(started: Stack) -> Stack:
    """The stack, ready, serving smollm2-135m with the configuration as shipped."""
    if not started.is_as_shipped():
        started.restore()
        started.run()
        started.changed = False
    return started

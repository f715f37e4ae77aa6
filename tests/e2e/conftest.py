"""The stack that the end-to-end tests share; see harness.py."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import pytest

import figures
import standins
from harness import DockerStack, Stack, docker

# How Docker is asked for what belongs to a stack.
OURS = ("--filter", "label=com.docker.compose.project=vllm-multi-model")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--runtime", choices=("native", "docker"), default="native", help="what the stack runs on")
    parser.addoption("--not-again", action="store_true", help="only what has to be seen in this runtime too")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "only(runtime, reason): what the other runtime cannot do, or need not do twice")
    config.addinivalue_line(
        "markers", "both: depends on what the stack runs on; the rest is done once where both are tested"
    )
    config.addinivalue_line("markers", "last: matters least; left out when TEST_MINUTES are over")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    runtime = config.getoption("--runtime", default="native")
    for item in items:
        marked = any(item.get_closest_marker(name) for name in ("only", "both"))
        if config.getoption("--not-again", default=False) and not marked:
            item.add_marker(pytest.mark.skip(reason="done in containers"))
        for mark in item.iter_markers("only"):
            if mark.args[0] != runtime:
                item.add_marker(pytest.mark.skip(reason=mark.kwargs["reason"]))
    items.sort(key=lambda item: item.get_closest_marker("last") is not None)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """What a slow machine has no time for is said to be left out; tests/run.sh sets the time."""
    until = float(os.environ.get("TESTS_UNTIL") or "inf")
    if item.get_closest_marker("last") and time.time() > until:
        pytest.skip(f"no time left: TEST_MINUTES were over {(time.time() - until) / 60:.0f} min ago")


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
        assert not docker("ps", "-aq", *OURS), (
            "a stack runs on this Docker engine, and the tests would take it away: ./runMe.sh down"
        )
        assert not docker("volume", "ls", "-q", *OURS), (
            "keys and usage of a stack are on this Docker engine, and the tests would take them away: "
            "use another engine (DOCKER_HOST), or save them (./runMe.sh backup) and remove them (docker compose down -v)"
        )
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
            docker("volume", "rm", *docker("volume", "ls", "-q", *OURS).split(), check=False)


@pytest.fixture
def stack(started: Stack) -> Stack:
    """The stack, ready, serving smollm2-135m with the configuration as shipped."""
    started.as_shipped()
    return started

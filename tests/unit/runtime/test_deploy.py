"""A change of what is served: whole, or back to what was served before."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from stack import plan
from stack.errors import ConfigError, DisturbedError, Problem, RunError
from stack.releases import FAILED, GOOD, PENDING, Release, Releases
from stack.runtime import deploy
from stack.runtime.deploy import RolledBackError
from stack.runtime.report import Report, Silent
from stack.runtime.watch import Part

IMAGES = {"engine": {"name": "vllm-multi-model/vllm-node:abc", "id": "sha256:abc"}}
CONFIG = ConfigError(Problem("models/m.yml:1", "command: refused"))
BROKEN = RunError(Problem("engine", "ended 2 times", "look"), Problem("gateway", "does not answer"))
SECOND = RunError(Problem("database", "does not answer"))


@dataclass
class Fake:
    """A runtime that serves at once, or raises what it is told to for a release's number."""

    known: Releases
    name: str = "docker"
    runs: bool = False
    before: dict[int, Exception] = field(default_factory=dict)  # before anything is replaced
    after: dict[int, Exception] = field(default_factory=dict)
    served: list[int] = field(default_factory=list)
    state: str = "ready"

    def up(self, release: Release, environ: Mapping[str, str], report: Report) -> plan.Plan:
        """See Runtime."""
        self.served.append(release.number)
        if release.number in self.before:
            raise self.before[release.number]
        self.known.activate(release)
        self.runs = True
        if release.number in self.after:
            raise self.after[release.number]
        return release.plan()

    def anything_runs(self) -> bool:
        """See Runtime."""
        return self.runs

    def parts(self) -> list[Part]:
        """See Runtime."""
        return [Part("engine", self.state, "")] if self.runs else []

    def running_model(self) -> str:
        """See Runtime."""
        current = self.known.current()
        return current.model if current and self.runs else ""

    def images(self) -> dict[str, dict[str, str]]:
        """See Runtime."""
        return IMAGES


class Notes(Silent):
    """Remembers notes."""

    def __init__(self) -> None:
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        """See Report."""
        self.notes.append(text)


@dataclass
class World:
    """A fake runtime, its releases, and a way to ask for one."""

    runtime: Fake
    known: Releases
    propose: Callable[..., Release]
    report: Notes = field(default_factory=Notes)

    def deploy(self, *sets: str) -> plan.Plan:
        """What `up` does."""
        return deploy.deploy(self.runtime, self.known, self.propose(*sets), {}, self.report)

    def states(self) -> dict[int, str]:
        """Number -> state of the releases there are."""
        return {release.number: release.state for release in self.known.all()}

    def current(self) -> int:
        """Number of the current release, or 0."""
        current = self.known.current()
        return current.number if current else 0


@pytest.fixture
def world(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """Nothing runs yet."""
    (root / "models" / "m.yml").write_text("command: vllm serve org/m --max-model-len 4096\n")
    monkeypatch.setenv("HF_HOME", "/not/read")
    known = Releases(tmp_path / "releases")

    def propose(*sets: str) -> Release:
        given = [f"HF_HOME={tmp_path / 'hf'}", *sets]
        return known.propose(root, {}, given, plan.make(root, {}, given, "m"), "docker")

    return World(Fake(known), known, propose)


def _cached(tmp_path: Path, reference: str, commit: str) -> None:
    path = tmp_path / "hf" / "hub" / "models--org--m" / "refs" / reference
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(commit)


def test_ready_is_good_with_images_seconds_and_revision(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _cached(tmp_path, "main", "c0ffee")
    clock = itertools.chain([100.0], itertools.repeat(107.26))
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    made = world.deploy("LITELLM_TOP_K=7")
    (release,) = world.known.all()
    assert (release.state, release.images, release.seconds, release.revision) == (GOOD, IMAGES, 7.3, "c0ffee")
    assert world.known.current() == release
    assert made.engine_digest == release.plan().engine_digest
    assert world.report.notes == []


def test_the_same_again_keeps_what_was_recorded(world: World) -> None:
    world.deploy()
    record = world.known.all()[0].folder / "release.json"
    before = record.read_bytes(), record.stat().st_mtime_ns
    world.deploy()
    assert (record.read_bytes(), record.stat().st_mtime_ns) == before
    assert (world.runtime.served, world.states()) == ([1, 1], {1: GOOD})


@pytest.mark.parametrize(
    ("line", "revision"),
    [("", "c0ffee"), ("revision: v1\n", "beef"), ("revision: 0123abcd\n", "0123abcd")],
    ids=["main", "tag", "commit"],
)
def test_revision_is_that_which_was_asked_for(world: World, root: Path, tmp_path: Path, line: str, revision: str) -> None:
    _cached(tmp_path, "main", "c0ffee")
    _cached(tmp_path, "v1", "beef")
    with (root / "models" / "m.yml").open("a") as file:
        file.write(line)
    world.deploy()
    assert world.known.all()[0].revision == revision


def test_revision_of_a_command_that_gives_its_own(world: World, root: Path, tmp_path: Path) -> None:
    _cached(tmp_path, "main", "c0ffee")
    (root / "models" / "m.yml").write_text("command: vllm serve org/m --revision=0123abcd\n")
    world.deploy()
    assert world.known.all()[0].revision == "0123abcd"


def test_revision_of_a_release_that_comes_back_is_not_that_of_now(world: World, tmp_path: Path) -> None:
    _cached(tmp_path, "main", "c0ffee")
    world.deploy()
    world.deploy("LITELLM_TOP_K=7")
    _cached(tmp_path, "main", "moved-on")
    first = world.known.find(1)
    deploy.deploy(world.runtime, world.known, world.known.repeat(first, first.plan()), {}, world.report)
    assert world.known.find(3).revision == "c0ffee"


@pytest.mark.parametrize(("runtime", "revision"), [("docker", "c0ffee"), ("native", "elsewhere")])
def test_other_cache_of_the_hub_is_the_native_runtimes_only(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, runtime: str, revision: str
) -> None:
    _cached(tmp_path, "main", "c0ffee")
    refs = tmp_path / "other" / "models--org--m" / "refs"
    refs.mkdir(parents=True)
    (refs / "main").write_text("elsewhere")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "other"))
    world.runtime.name = runtime
    world.deploy()
    assert world.known.all()[0].revision == revision


def test_wrong_configuration_leaves_everything_as_it_is(world: World) -> None:
    world.deploy()
    first = world.known.current()
    world.runtime.before[2] = CONFIG
    with pytest.raises(ConfigError) as caught:
        world.deploy("LITELLM_TOP_K=7")
    assert caught.value is CONFIG
    assert (world.known.current(), world.known.all()) == (first, [first])
    assert (world.runtime.served, world.report.notes) == ([1, 2], [])


def test_failure_before_anything_was_replaced_is_forgotten(world: World) -> None:
    world.deploy()
    world.runtime.before[2] = BROKEN
    with pytest.raises(RunError) as caught:
        world.deploy("LITELLM_TOP_K=7")
    assert caught.value is BROKEN
    assert (world.states(), world.current()) == ({1: GOOD}, 1)
    assert world.runtime.served == [1, 2]


def test_previous_one_comes_back(world: World) -> None:
    world.deploy()
    world.runtime.after[2] = BROKEN
    with pytest.raises(RolledBackError) as caught:
        world.deploy("LITELLM_TOP_K=7")
    assert caught.value.problems == BROKEN.problems
    assert caught.value.exit_status == 1
    assert world.runtime.served == [1, 2, 1]
    assert (world.states(), world.current()) == ({1: GOOD, 2: FAILED}, 1)
    assert world.known.all()[1].reason == "error: engine: ended 2 times\n  look"
    assert world.report.notes == [
        "engine: ended 2 times\n  look",
        "gateway: does not answer",
        "release 2 (m) did not become ready; release 1 (m) comes back",
    ]


def test_what_failed_is_tried_again_when_asked(world: World) -> None:
    world.deploy()
    world.runtime.after[2] = BROKEN
    with pytest.raises(RolledBackError):
        world.deploy("LITELLM_TOP_K=7")
    world.deploy("LITELLM_TOP_K=7")
    assert (world.states(), world.current()) == ({1: GOOD, 2: FAILED, 3: GOOD}, 3)


def _forbid(world: World) -> list[str]:
    world.deploy()
    return ["ROLLBACK=false"]


def _stop(world: World) -> list[str]:
    world.deploy()
    world.runtime.runs = False
    return []


def _nothing(world: World) -> list[str]:
    world.propose("LITELLM_TOP_K=1")  # so that the numbers are the same
    return []


def _fail(world: World) -> list[str]:
    world.runtime.after[1] = BROKEN
    with pytest.raises(RunError):
        world.deploy()
    assert world.states() == {1: FAILED}
    return []


@pytest.mark.parametrize(
    ("prepare", "first"),
    [(_forbid, GOOD), (_stop, GOOD), (_nothing, PENDING), (_fail, FAILED)],
    ids=["forbidden", "stopped-before", "nothing-before", "failed-before"],
)
def test_nothing_comes_back(world: World, prepare: Callable[[World], list[str]], first: str) -> None:
    sets = prepare(world)
    world.runtime.after[2] = BROKEN
    world.runtime.served.clear()
    with pytest.raises(RunError) as caught:
        world.deploy("LITELLM_TOP_K=7", *sets)
    assert caught.value is BROKEN
    assert not isinstance(caught.value, RolledBackError)
    assert world.runtime.served == [2]
    assert (world.states(), world.current()) == ({1: first, 2: FAILED}, 2)
    assert world.report.notes == []


def test_release_that_does_not_start_again_has_nothing_to_go_back_to(world: World) -> None:
    world.deploy()
    world.runtime.after[1] = BROKEN
    with pytest.raises(RunError) as caught:
        world.deploy()
    assert caught.value is BROKEN
    # It was ready once: what is broken now is not its configuration.
    assert (world.runtime.served, world.states(), world.current()) == ([1, 1], {1: GOOD}, 1)


@pytest.mark.parametrize("second", [SECOND, ConfigError(Problem("LITELLM_PORT=4000", "is taken"))], ids=["run", "config"])
def test_previous_one_that_does_not_come_back_either(world: World, second: RunError | ConfigError) -> None:
    world.deploy()
    world.runtime.after[2] = BROKEN
    world.runtime.before[1] = second
    with pytest.raises(RunError) as caught:
        world.deploy("LITELLM_TOP_K=7")
    assert not isinstance(caught.value, RolledBackError)
    assert [str(problem) for problem in caught.value.problems] == [
        *map(str, BROKEN.problems),
        "error: release 1: did not come back either\n  look: ./runMe.sh status, ./runMe.sh logs",
        *map(str, second.problems),
    ]
    assert caught.value.exit_status == 1
    assert world.states() == {1: GOOD, 2: FAILED}


def test_both_runtimes_are_runtimes(tmp_path: Path) -> None:
    from stack.runtime.docker import Docker
    from stack.runtime.layout import Layout
    from stack.runtime.native import Native

    layout = Layout.from_environ({"STACK_ROOT": str(tmp_path)})
    both: list[deploy.Runtime] = [Docker(layout), Native(layout)]
    assert [runtime.name for runtime in both] == ["docker", "native"]


def test_what_somebody_else_has_stopped_stays_stopped(world: World) -> None:
    world.deploy()
    world.runtime.after[2] = DisturbedError(Problem("stack", "was stopped by another ./runMe.sh down"))
    with pytest.raises(DisturbedError):
        world.deploy("LITELLM_TOP_K=7")
    assert world.runtime.served == [1, 2]
    assert world.states() == {1: GOOD, 2: PENDING}


@pytest.mark.parametrize(("state", "back"), [("ready", 2), ("starting", 1)])
def test_one_that_was_interrupted_counts_if_it_became_ready(world: World, state: str, back: int) -> None:
    world.deploy()
    world.runtime.after[2] = KeyboardInterrupt()  # type: ignore[assignment]
    with pytest.raises(KeyboardInterrupt):
        world.deploy("LITELLM_TOP_K=7")
    world.runtime.after = {3: BROKEN}
    world.runtime.state = state
    with pytest.raises(RolledBackError) as caught:
        world.deploy("LITELLM_TOP_K=8")
    assert caught.value.served.number == back
    assert world.runtime.served[-1] == back
    assert world.known.find(back).state == GOOD

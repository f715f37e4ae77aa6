"""Releases: what was accepted is kept as it was, comes back as it was, and holds no secret."""

from __future__ import annotations

import errno
import json
import os
import shutil
import stat
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import pytest

from stack import plan, releases, sources
from stack.errors import ConfigError, RunError
from stack.releases import FAILED, GOOD, KEEP, PENDING, RECORD, Release, Releases, changes, served_revision

MODEL = "command: vllm serve org/m --max-model-len 4096\n"
AWKWARD = [
    "plain",
    "two words",
    "it's",
    '"double"',
    "'single'",
    "a # b",
    "#c",
    "$HOME ${HOME} `x` $(x)",
    "back\\slash",
    "ends with\\",
    "ends with two\\\\",
    "\\'",
    "'\\",
    "\\n is no line break",
    "a=b=c",
    '{"json": ["x"]}',
    "two\nlines",
    "carriage\rreturn",
    "grün 模型",
    "line\u2028separator",
]


@dataclass
class World:
    """A root to propose from, and the releases."""

    root: Path
    known: Releases

    def make(self, environ: dict[str, str] | None = None, sets: Iterable[str] = (), model: str = "m") -> plan.Plan:
        """The plan for a call."""
        return plan.make(self.root, environ or {}, list(sets), model)

    def propose(
        self,
        environ: dict[str, str] | None = None,
        sets: Iterable[str] = (),
        model: str = "m",
        runtime: str = "docker",
    ) -> Release:
        """Record what a call asks for."""
        made = self.make(environ, sets, model)
        return self.known.propose(self.root, environ or {}, list(sets), made, runtime)

    def good(self, environ: dict[str, str] | None = None, sets: Iterable[str] = (), model: str = "m") -> Release:
        """The same, become ready."""
        return self.run(self.propose(environ, sets, model))

    def run(self, release: Release, state: str = GOOD, **facts: object) -> Release:
        """What deploy does with it."""
        self.known.activate(release)
        return self.known.mark(release, state, **facts)

    def folders(self) -> list[str]:
        """What lies in the folder of releases."""
        return sorted(path.name for path in self.known.folder.iterdir()) if self.known.folder.exists() else []


@pytest.fixture
def world(root: Path, tmp_path: Path) -> World:
    """No release yet; a model m."""
    (root / "models" / "m.yml").write_text(MODEL)
    return World(root, Releases(tmp_path / "state" / "releases"))


def test_nothing_yet(world: World) -> None:
    assert (world.known.all(), world.known.current()) == ([], None)


def test_a_release_holds_what_it_was_accepted_with(world: World) -> None:
    (world.root / "vars.local.env").write_text("LITELLM_TOP_K=9\nLITELLM_TOP_P=0.3\n")
    release = world.propose({"LITELLM_TOP_P": "0.4", "PATH": "/bin"}, ["env.A=b"])
    assert (release.number, release.folder.name, release.state, release.model) == (1, "0001", PENDING, "m")
    held = {str(path.relative_to(release.folder)): path for path in release.folder.rglob("*") if path.is_file()}
    assert set(held) == {
        "vars.env",
        "vars.local.env",
        "overrides",
        "litellm_config.template.yaml",
        "models/m.yml",
        "release.json",
    }
    for name in ("vars.env", "litellm_config.template.yaml", "models/m.yml"):
        assert held[name].read_bytes() == (world.root / name).read_bytes()
    # The caller's value is above that of vars.local.env, as it was then.
    assert held["vars.local.env"].read_text() == "LITELLM_TOP_K='9'\nLITELLM_TOP_P='0.4'\n"
    assert held["overrides"].read_text() == "env.A=b\n"
    assert world.known.all() == [release]
    assert world.known.current() is None


CALLS: dict[str, tuple[dict[str, str], list[str]]] = {
    "plain": ({}, []),
    "environment": ({"LITELLM_TOP_P": "0.4", "NCCL_DEBUG": "INFO", "VLLM_LOGGING_LEVEL": "DEBUG", "HF_HOME": "/cache"}, []),
    "set": ({"LITELLM_TOP_P": "0.4"}, ["LITELLM_TOP_P=0.5", "env.A=b c", "litellm.min_p=0.1", "ENGINE_PORT=8001"]),
    "awkward-set": ({}, [f"env.A{index}={text}" for index, text in enumerate(AWKWARD) if "\n" not in text]),
}


@pytest.mark.parametrize("name", CALLS)
def test_its_inputs_alone_lead_to_the_same_plan(world: World, name: str) -> None:
    environ, sets = CALLS[name]
    (world.root / "vars.local.env").write_text("LITELLM_TOP_K=9\nNCCL_DEBUG=WARN\n")
    made, release = world.make(environ, sets), world.propose(environ, sets)
    for path in world.root.rglob("*"):
        if path.is_file():
            path.write_text("edited meanwhile: [\n")
    again = release.plan()
    assert again.engine_argv == made.engine_argv
    assert again.engine_env == made.engine_env
    assert again.gateway_config == made.gateway_config
    assert (again.engine_digest, again.gateway_digest) == (made.engine_digest, made.gateway_digest)


def test_weights_and_overrides_of_the_runtime_come_on_top(world: World) -> None:
    release = world.propose({}, ["ENGINE_PORT=8001", "LITELLM_PORT=4001"])
    inside = release.plan("/app/weights", ["ENGINE_PORT=8000"])
    assert inside.engine_argv[2] == "/app/weights"
    assert (inside.resolved["ENGINE_PORT"], inside.resolved["LITELLM_PORT"]) == (8000, 4001)


@pytest.mark.parametrize("value", AWKWARD)
@pytest.mark.parametrize("key", ["VLLM_A", "HF_HOME"])
def test_awkward_values_come_back_as_they_were(world: World, key: str, value: str) -> None:
    key = "VLLM_A" if "\n" in value else key  # a setting is one line of text
    environ = {key: value, "VLLM_Z": "'next'", "NCCL_A": "before # it"}
    made, release = world.make(environ), world.propose(environ)
    entries = sources.parse_vars((release.folder / "vars.local.env").read_bytes().decode(), "vars.local.env")
    assert {name: entry.value for name, entry in entries.items()} == environ
    assert release.plan().engine_digest == made.engine_digest


def test_a_last_backslash_cannot_be_taken_to_escape_the_quote(world: World) -> None:
    release = world.propose({"VLLM_A": "ends with\\", "VLLM_B": "x"})
    # Images bring older readers of this format, which would go on to the next quote.
    assert (release.folder / "vars.local.env").read_text() == "VLLM_A='ends with\\\\ '\nVLLM_B='x'\n"


SECRETS = {
    "VLLM_API_KEY": "never-1",
    "VLLM_API_KEY_FILE": "never-2",
    "HF_TOKEN": "never-3",
    "HF_TOKEN_FILE": "never-4",
    "LITELLM_MASTER_KEY": "never-5",
    "LITELLM_SALT_KEY": "never-6",
    "POSTGRES_PASSWORD": "never-7",
    "ANTHROPIC_AUTH_TOKEN": "never-8",
    "AWS_SECRET_ACCESS_KEY": "never-9",
    "DATABASE_URL": "never-10",
    "VLLM_PORT": "never-11",
}


def test_no_secret_gets_in(world: World) -> None:
    release = world.propose({**SECRETS, "LITELLM_TOP_K": "7"})
    text = "".join(path.read_text() for path in release.folder.rglob("*") if path.is_file())
    assert "never-" not in text
    assert (release.folder / "vars.local.env").read_text() == "LITELLM_TOP_K='7'\n"


def test_secret_in_vars_local_env_is_refused_before_it_is_kept(world: World) -> None:
    (world.root / "vars.local.env").write_text("VLLM_API_KEY=never-1\n")
    with pytest.raises(ConfigError, match="is a secret"):
        world.propose()
    assert world.folders() == []


def test_same_inputs_are_the_current_release_again(world: World) -> None:
    first = world.good({"LITELLM_TOP_K": "7"})
    assert world.propose({"LITELLM_TOP_K": "7", "PATH": "/elsewhere", "HF_TOKEN": "x"}) == first
    assert world.folders() == ["0001", "current"]


@pytest.mark.parametrize("what", ["environment", "set", "fragment", "vars", "template", "model", "runtime"])
def test_other_inputs_are_the_next_release(world: World, what: str) -> None:
    first = world.good()
    calls: dict[str, Callable[[], Release]] = {
        "environment": lambda: world.propose({"LITELLM_TOP_K": "7"}),
        "set": lambda: world.propose(sets=["LITELLM_TOP_K=7"]),
        "model": lambda: world.propose(model="minilm"),
        "runtime": lambda: world.propose(runtime="native"),
    }
    edited = {"fragment": "models/m.yml", "vars": "vars.env", "template": "litellm_config.template.yaml"}
    if what in edited:
        with (world.root / edited[what]).open("a") as file:
            file.write("# edited\n")
    second = calls.get(what, world.propose)()
    assert (second.number, second.state) == (2, PENDING)
    assert world.known.current() == first


@pytest.mark.parametrize("state", [PENDING, FAILED])
def test_what_did_not_work_is_tried_again_under_a_new_number(world: World, state: str) -> None:
    world.run(world.propose(), state)
    assert world.propose().number == 2


def test_only_the_current_one_comes_again(world: World) -> None:
    world.good()
    world.good(sets=["LITELLM_TOP_K=7"])
    assert world.propose().number == 3


def test_a_number_that_somebody_else_takes_meanwhile_is_not_used_twice(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.good()
    mkdir = Path.mkdir

    def late(path: Path, *arguments: object, **options: object) -> None:
        if path.name == "0002" and not path.exists():
            mkdir(path)
            (path / "theirs").touch()
        mkdir(path, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Path, "mkdir", late)
    assert world.propose(sets=["LITELLM_TOP_K=7"]).folder.name == "0003"
    assert [path.name for path in (world.known.folder / "0002").iterdir()] == ["theirs"]


def test_current_is_a_link_that_is_switched_in_one_step(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    first = world.good()
    second = world.propose(sets=["LITELLM_TOP_K=7"])
    link = world.known.folder / "current"
    assert str(link.readlink()) == "0001"  # relative: containers see it elsewhere
    seen = []
    replace = os.replace

    def observed(source: Path, target: Path) -> None:
        seen.append((target.name, world.known.current()))
        replace(source, target)

    monkeypatch.setattr(os, "replace", observed)
    world.known.activate(second)
    assert seen == [("current", first)]
    assert str(link.readlink()) == "0002"
    assert world.known.current() == second
    assert world.folders() == ["0001", "0002", "current"]


def test_a_switch_that_was_interrupted_does_not_stop_the_next(world: World) -> None:
    release = world.propose()
    (world.known.folder / ".current").symlink_to("0099")
    world.known.activate(release)
    assert world.known.current() == release
    assert world.folders() == ["0001", "current"]


def test_current_that_names_nothing(world: World) -> None:
    release = world.good()
    shutil.rmtree(release.folder)
    assert world.known.current() is None
    assert world.propose().number == 1


@pytest.mark.parametrize("text", ["", "{", "[]", '{"number": 1}', '{"number": 1, "unknown": 2}'])
def test_unreadable_record_is_left_out_and_its_number_not_used_again(world: World, text: str) -> None:
    release = world.good()
    (release.folder / RECORD).write_text(text)
    assert (world.known.all(), world.known.current()) == ([], None)
    assert world.propose().number == 2


def test_discard_forgets_only_what_was_never_started(world: World) -> None:
    good = world.good()
    failed = world.run(world.propose(sets=["LITELLM_TOP_K=7"]), FAILED)
    pending, current = world.propose(sets=["LITELLM_TOP_K=8"]), world.propose(sets=["LITELLM_TOP_K=9"])
    world.known.activate(current)
    for release in (good, failed, pending, current):
        world.known.discard(release)
    assert [release.number for release in world.known.all()] == [1, 2, 4]


def test_mark_keeps_what_became_of_it(world: World) -> None:
    images = {"engine": {"name": "a:b", "id": "sha256:1"}}
    marked = world.run(world.propose(), GOOD, seconds=1.5, images=images, revision="abc")
    assert world.known.all() == [marked]
    assert (marked.state, marked.seconds, marked.images, marked.revision) == (GOOD, 1.5, images, "abc")
    assert marked.values["LITELLM_PORT"] == "4000"
    assert marked.values["litellm.temperature"] == "0.7"
    assert marked.values["command"] == "vllm serve org/m --max-model-len 4096"
    assert json.loads((marked.folder / RECORD).read_text())["images"] == images


def test_find(world: World) -> None:
    first = world.good()
    world.run(world.propose(sets=["LITELLM_TOP_K=7"]), FAILED)
    third = world.good(sets=["LITELLM_TOP_K=8"])
    assert (world.known.find(1), world.known.find(3)) == (first, third)
    for number in (0, 2, 4):
        with pytest.raises(ConfigError) as caught:
            world.known.find(number)
        assert str(caught.value) == f"error: rollback: no known-good release {number}\n  there are: 1, 3"


def test_find_when_there_is_none(world: World) -> None:
    with pytest.raises(ConfigError, match="there are: none yet"):
        world.known.find(1)


def test_before_is_the_newest_good_one_that_differs(world: World) -> None:
    first = world.good()
    second = world.good(sets=["LITELLM_TOP_K=7"])
    failed = world.run(world.propose(sets=["LITELLM_TOP_K=8"]), FAILED)
    assert world.known.before(second) == first
    assert world.known.before(failed) == second
    assert world.known.before(None) == second
    back = world.good()
    assert back.inputs == first.inputs
    # The same inputs under another number are no earlier state.
    assert world.known.before(back) == second
    world.known.mark(second, FAILED)
    for release in (back, first):
        with pytest.raises(ConfigError) as caught:
            world.known.before(release)
        assert str(caught.value) == ("error: rollback: no earlier known-good release\n  see them: ./runMe.sh releases")


def test_order_is_that_of_the_numbers(world: World) -> None:
    release = world.good()
    for number in (9999, 10000):
        world.known.mark(
            release.__class__(**{**vars(release), "number": number, "folder": world.known.folder / str(number)}), GOOD
        )
    assert [one.number for one in world.known.all()] == [1, 9999, 10000]


def test_repeat_has_the_inputs_of_then_and_pins_the_revision(world: World) -> None:
    images = {"engine": {"name": "a:b", "id": "sha256:1"}}
    first = world.run(world.propose({"LITELLM_TOP_P": "0.4"}, ["env.A=b"]), GOOD, revision="abc123", images=images)
    world.good(sets=["LITELLM_TOP_K=7"])
    (world.root / "models" / "m.yml").write_text("command: vllm serve other\n")
    again = world.known.repeat(first, first.plan())
    assert (again.number, again.repeats, again.state, again.images) == (3, 1, PENDING, images)
    assert (again.folder / "models" / "m.yml").read_text() == f"{MODEL}\nrevision: abc123  # as it was served\n"
    then, now = first.plan(), again.plan()
    assert now.served.fragment.revision == "abc123"
    position = now.engine_argv.index("--revision")
    assert now.engine_argv[position + 1] == "abc123"
    assert now.engine_argv[:position] + now.engine_argv[position + 2 :] == then.engine_argv
    assert now.gateway_digest == then.gateway_digest
    for name in ("vars.env", "vars.local.env", "overrides", "litellm_config.template.yaml"):
        assert (again.folder / name).read_bytes() == (first.folder / name).read_bytes()


def test_repeat_leaves_a_revision_that_the_fragment_gives(world: World) -> None:
    (world.root / "models" / "m.yml").write_text(f"{MODEL}revision: mine\n")
    first = world.run(world.propose(), GOOD, revision="abc123")
    world.good(sets=["LITELLM_TOP_K=7"])
    again = world.known.repeat(first, first.plan())
    assert (again.folder / "models" / "m.yml").read_text() == f"{MODEL}revision: mine\n"
    assert again.plan().engine_digest == first.plan().engine_digest
    assert again.inputs == first.inputs


def test_repeat_of_a_repeat_pins_once(world: World) -> None:
    first = world.run(world.propose(), GOOD, revision="abc123")
    world.good(sets=["LITELLM_TOP_K=7"])
    again = world.run(world.known.repeat(first, first.plan()), GOOD, revision="abc123")
    world.good(sets=["LITELLM_TOP_K=8"])
    third = world.known.repeat(again, again.plan())
    assert (third.folder / "models" / "m.yml").read_text().count("revision:") == 1
    assert third.plan().engine_digest == again.plan().engine_digest


@pytest.mark.parametrize("ending", ["", "\n\n\n", "\r\n", "litellm:\n  top_k: 3", "description: |+\n  text\n\n\n"])
def test_repeat_pins_however_the_fragment_ends(world: World, ending: str) -> None:
    (world.root / "models" / "m.yml").write_bytes((MODEL + ending).encode())
    first = world.run(world.propose(), GOOD, revision="abc123")
    again = world.known.repeat(first, first.plan())
    assert again.plan().served.fragment.revision == "abc123"
    assert again.plan().gateway_digest == first.plan().gateway_digest


def _many(world: World, states: Iterable[str]) -> None:
    """Releases with these states, quickly."""
    first = world.propose()
    for number, state in enumerate(states, 1):
        folder = world.known.folder / f"{number:04}"
        folder.mkdir(exist_ok=True)
        world.known.mark(Release(**{**vars(first), "number": number, "folder": folder, "inputs": str(number)}), state)


def test_old_ones_go_but_for_the_current_and_the_newest_good_one(world: World) -> None:
    count = KEEP + 10
    _many(world, [GOOD, GOOD, GOOD, *[FAILED] * (count - 3)])
    world.known.activate(world.known.all()[1])
    new = world.propose(sets=["LITELLM_TOP_K=7"])
    assert new.number == count + 1
    kept = [release.number for release in world.known.all()]
    assert kept == [2, 3, *range(count + 2 - KEEP, count + 2)]
    assert len(kept) == KEEP + 2


def test_nothing_goes_while_there_are_few(world: World) -> None:
    _many(world, [FAILED] * (KEEP - 1))
    assert world.propose(sets=["LITELLM_TOP_K=7"]).number == KEEP
    assert len(world.known.all()) == KEEP


@pytest.mark.parametrize("nth", range(6))
def test_full_disk_leaves_nothing_behind(world: World, monkeypatch: pytest.MonkeyPatch, nth: int) -> None:
    good = world.good()
    calls = []

    def full(handle: int) -> None:
        calls.append(handle)
        if len(calls) == nth + 1:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RunError, match="cannot be written: No space left on device"):
        world.propose(sets=["LITELLM_TOP_K=7"])
    assert len(calls) == nth + 1
    assert world.folders() == ["0001", "current"]
    assert (world.known.all(), world.known.current()) == ([good], good)
    monkeypatch.undo()
    assert world.propose(sets=["LITELLM_TOP_K=7"]).number == 2


def test_files_may_be_read_by_the_containers(world: World) -> None:
    release = world.propose()
    assert {stat.S_IMODE(path.stat().st_mode) for path in release.folder.rglob("*") if path.is_file()} == {0o644}


def test_changes(world: World) -> None:
    images = {"engine": {"name": "a:b", "id": "sha256:1111"}, "database": {"name": "p", "id": "sha256:3"}}
    old = world.run(world.propose(sets=["env.OLD=1"]), GOOD, revision="abc", images=images)
    (world.root / "models" / "m.yml").write_text("command: vllm serve org/m --max-model-len 8192\n")
    new = world.propose({"LITELLM_PORT": "4001"}, ["LITELLM_TEMPERATURE=0.1", "env.NEW=2"])
    assert changes(old, new) == [
        ("LITELLM_PORT", "4000", "4001"),
        ("command", "vllm serve org/m --max-model-len 4096", "vllm serve org/m --max-model-len 8192"),
        ("env.NEW", "", "2"),
        ("env.OLD", "1", ""),
        ("litellm.temperature", "0.7", "0.1"),
    ]
    assert changes(old, old) == []


def test_changes_of_what_only_running_shows(world: World) -> None:
    first = world.propose()
    known = {"engine": {"name": "a", "id": "sha256:1111111111111111"}, "gateway": {"name": "g", "id": "sha256:2"}}
    old = world.known.mark(first, GOOD, revision="abc", images=known)
    other = {"engine": {"name": "a", "id": "sha256:9999999999999999"}, "database": {"name": "p", "id": "sha256:3"}}
    new = world.known.mark(first, GOOD, revision="def", images=other)
    # An image or a revision that is known of one of them only says nothing.
    assert changes(old, new) == [
        ("revision", "abc", "def"),
        ("image of engine", "sha256:111111111111", "sha256:999999999999"),
    ]


@pytest.mark.parametrize(
    ("reference", "revision"), [("", "c0ffee"), ("main", "c0ffee"), ("v1", "beef"), ("0123abcd", "0123abcd")]
)
def test_served_revision(tmp_path: Path, reference: str, revision: str) -> None:
    refs = tmp_path / "models--org--m" / "refs"
    refs.mkdir(parents=True)
    (refs / "main").write_text("c0ffee\n")
    (refs / "v1").write_text("beef")
    assert served_revision("org/m", tmp_path, reference) == revision
    assert served_revision("org/other", tmp_path) == ""


def test_values_do_not_repeat_what_stands_with_the_model(world: World) -> None:
    values = releases._values(world.make(sets=["LITELLM_TOP_K=7"]))
    assert values["litellm.top_k"] == "7"
    assert "LITELLM_TOP_K" not in values

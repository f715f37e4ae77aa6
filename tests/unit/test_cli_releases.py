"""`up`, `releases` and `rollback` on the command line, with a runtime that only pretends."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from stack import cli, plan, views
from stack.errors import ConfigError, Problem, RunError
from stack.releases import FAILED, GOOD, Release, Releases
from stack.runtime.report import Report

MODEL = "description: d\ncommand: vllm serve org/m --max-model-len 4096\n"


@dataclass
class Fake:
    """A runtime that serves at once, but for the numbers it is told to fail for."""

    known: Releases
    broken: set[int] = field(default_factory=set)
    refused: set[int] = field(default_factory=set)
    served: list[Release] = field(default_factory=list)
    name: str = "docker"

    def up(self, release: Release, environ: Mapping[str, str], report: Report) -> plan.Plan:
        """See Runtime."""
        self.served.append(release)
        if release.number in self.refused:
            raise ConfigError(Problem("models/m.yml:2", "command: refused"))
        self.known.activate(release)
        if release.number in self.broken:
            raise RunError(Problem("engine", "ended 2 times", "look: ./runMe.sh logs engine"))
        return release.plan()

    def anything_runs(self) -> bool:
        """See Runtime."""
        return self.known.current() is not None

    def images(self) -> dict[str, dict[str, str]]:
        """See Runtime."""
        return {"engine": {"name": "vllm-multi-model/vllm-node:0123456789ab", "id": "sha256:0123456789ab"}}


@dataclass
class Command:
    """The command line over a root."""

    root: Path
    runtime: Fake
    capsys: pytest.CaptureFixture[str]
    asked_for: list[str] = field(default_factory=list)

    def run(self, *arguments: str) -> tuple[int, str, str]:
        """Exit status, output, errors."""
        status = cli.main(list(arguments))
        printed = self.capsys.readouterr()
        assert "Traceback" not in printed.out + printed.err
        return status, printed.out, printed.err

    def numbers(self) -> list[int]:
        """Numbers of what the runtime was to serve."""
        return [release.number for release in self.runtime.served]


@pytest.fixture
def command(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Nothing was served yet."""
    (root / "models" / "m.yml").write_text(MODEL)
    for key, value in {
        "STACK_ROOT": root,
        "STATE_DIR": tmp_path / "state",
        "HF_HOME": tmp_path / "hf",
        "MODEL": "m",
    }.items():
        monkeypatch.setenv(key, str(value))
    made = Command(root, Fake(Releases(tmp_path / "state" / "releases")), capsys)

    def runtime(layout: object, wanted: str, running: bool = False) -> Fake:
        made.asked_for.append(wanted)
        return made.runtime

    monkeypatch.setattr(cli, "_runtime", runtime)
    return made


def rows(table: str) -> list[list[str]]:
    """The cells of a printed table: what two or more blanks part."""
    return [re.split(r" {2,}", line.strip()) for line in table.strip().splitlines()]


def test_help_lists_them(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(["--help"])
    text = capsys.readouterr().out
    assert caught.value.code == 0
    assert re.search(r"^ +rollback +serve an earlier release again, as it was$", text, re.M)
    assert re.search(r"^ +releases +list what was served, and what became of it$", text, re.M)


@pytest.mark.parametrize(("name", "words"), [("rollback", ["number", "--json"]), ("releases", ["--json"])])
def test_help_of_each(capsys: pytest.CaptureFixture[str], name: str, words: list[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main([name, "--help"])
    text = capsys.readouterr().out
    assert [word for word in words if word not in text] == []


def test_no_releases_yet(command: Command) -> None:
    assert command.run("releases") == (0, "no releases yet\n", "")
    assert command.run("releases", "--json") == (0, "[]\n", "")
    assert command.run("rollback") == (
        2,
        "",
        "error: rollback: no earlier known-good release\n  see them: ./runMe.sh releases\nnothing was started or changed\n",
    )
    assert (command.runtime.served, command.runtime.known.folder.exists()) == ([], False)


def test_up_records_and_says_what_changed(command: Command) -> None:
    status, out, err = command.run("up")
    assert status == 0
    assert out.startswith("\nready: m (also vllm_agent)\n")
    assert err == "note: serving m with the docker runtime, release 1\n"
    status, _, err = command.run("up", "--set", "LITELLM_TEMPERATURE=0.1", "--set", "LITELLM_MAX_TOKENS=1K")
    assert status == 0
    assert err.splitlines() == [
        "note: serving m with the docker runtime, release 2",
        "",
        "changed since release 1:",
        "  litellm.max_tokens: 131072 -> 1024",
        "  litellm.temperature: 0.7 -> 0.1",
    ]
    assert [release.state for release in command.runtime.known.all()] == [GOOD, GOOD]


def test_up_once_more_is_no_change(command: Command) -> None:
    command.run("up")
    assert command.run("up")[2] == "note: serving m with the docker runtime, release 1\n"
    assert command.numbers() == [1, 1]


def test_up_that_is_refused_leaves_no_trace(command: Command) -> None:
    command.run("up")
    command.runtime.refused.add(2)
    status, out, err = command.run("up", "--set", "LITELLM_TOP_K=7")
    assert (status, out) == (2, "")
    assert err.splitlines()[1:] == ["error: models/m.yml:2: command: refused", "nothing was started or changed"]
    assert [release.number for release in command.runtime.known.all()] == [1]


def test_up_that_fails_names_what_was_given_up(command: Command) -> None:
    command.run("up")
    command.runtime.broken.add(2)
    status, out, err = command.run("up", "--set", "LITELLM_TOP_K=7")
    assert (status, out) == (1, "")
    assert command.numbers() == [1, 2, 1]
    lines = err.splitlines()
    assert "note: release 2 (m) did not become ready; release 1 (m) comes back" in lines
    assert lines[lines.index("note: m is served again, release 1; what was given up:") + 1] == "note: litellm.top_k: 50 -> 7"
    assert lines[-2:] == ["error: engine: ended 2 times", "  look: ./runMe.sh logs engine"]


@pytest.fixture
def history(command: Command) -> Command:
    """1 good, 2 failed, 3 good and current, with another revision."""
    command.run("up")
    first = command.runtime.known.find(1)
    command.runtime.known.mark(first, GOOD, revision="0123456789abcdef", seconds=61.4)
    command.runtime.broken.add(2)
    command.run("up", "--set", "LITELLM_TOP_K=7")
    command.run("up", "--set", "LITELLM_TOP_K=8")
    command.runtime.known.mark(command.runtime.known.find(3), GOOD, seconds=7.0)
    command.runtime.served.clear()
    command.asked_for.clear()
    return command


def test_table(history: Command) -> None:
    status, out, err = history.run("releases")
    assert (status, err) == (0, "")
    head, *lines = rows(out)
    assert head == ["release", "accepted", "model", "state", "ready after", "runtime", "revision", "image", "note"]
    found = [[cell for cell in line if not cell.startswith("20")] for line in lines]
    assert found == [
        ["3 (current)", "m", "good", "7 s", "docker", "0123456789ab"],
        ["2", "m", "failed", "docker", "engine: ended 2 times"],
        ["1", "m", "good", "61 s", "docker", "0123456789ab", "0123456789ab"],
    ]
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", line[1]) for line in lines)


def test_json(history: Command) -> None:
    found = json.loads(history.run("releases", "--json")[1])
    assert [(one["number"], one["state"], one["current"]) for one in found] == [
        (1, GOOD, False),
        (2, FAILED, False),
        (3, GOOD, True),
    ]
    assert (found[0]["seconds"], found[0]["revision"], found[1]["reason"].splitlines()[0]) == (
        61.4,
        "0123456789abcdef",
        "error: engine: ended 2 times",
    )
    assert found[0]["images"]["engine"]["id"] == "sha256:0123456789ab"
    assert found[2]["values"]["litellm.top_k"] == "8"
    assert Path(found[2]["folder"]).name == "0003"


def test_rollback_without_a_number_serves_the_good_one_before(history: Command) -> None:
    status, out, err = history.run("rollback")
    assert status == 0
    assert out.startswith("\nready: m ")
    (served,) = history.runtime.served
    assert (served.number, served.repeats) == (4, 1)
    assert served.plan().resolved["LITELLM_TOP_K"] == 50
    assert "revision: 0123456789abcdef" in (served.folder / "models" / "m.yml").read_text()
    assert "  litellm.top_k: 8 -> 50" in err.splitlines()
    head = rows(history.run("releases")[1])[1]
    assert (head[0], head[-1]) == ("4 (current)", "release 1 again")


def test_rollback_twice_goes_there_and_back(history: Command) -> None:
    history.run("rollback")
    assert history.run("rollback")[0] == 0
    assert [release.repeats for release in history.runtime.served] == [1, 3]
    assert history.runtime.served[-1].plan().resolved["LITELLM_TOP_K"] == 8


def test_rollback_to_a_number(history: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    # What is said and edited now does not count: the release has its own.
    monkeypatch.setenv("LITELLM_TOP_K", "99")
    monkeypatch.setenv("MODEL", "minilm")
    monkeypatch.setenv("RUNTIME", "native")
    (history.root / "models" / "m.yml").write_text("broken: [\n")
    assert history.run("rollback", "1")[0] == 0
    (served,) = history.runtime.served
    assert (served.model, served.repeats, served.plan().resolved["LITELLM_TOP_K"]) == ("m", 1, 50)
    assert history.asked_for == ["docker"]


def test_rollback_to_what_runs_starts_no_other(history: Command) -> None:
    assert history.run("rollback", "3")[0] == 0
    assert history.numbers() == [3]


@pytest.mark.parametrize("number", ["2", "9", "-1"])
def test_rollback_to_what_never_worked(history: Command, number: str) -> None:
    assert history.run("rollback", number) == (
        2,
        "",
        f"error: rollback: no known-good release {number}\n  there are: 1, 3\nnothing was started or changed\n",
    )
    assert history.runtime.served == []


def test_rollback_to_no_number(history: Command, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(["rollback", "latest"])
    assert caught.value.code == 2
    assert "argument number: invalid int value: 'latest'" in capsys.readouterr().err


def test_rollback_as_json(history: Command) -> None:
    status, out, _ = history.run("rollback", "--json")
    assert (status, json.loads(out)["model"], json.loads(out)["url"]) == (0, "m", "http://127.0.0.1:4000")


def test_rollback_that_fails_comes_back_itself(history: Command) -> None:
    history.runtime.broken.add(4)
    assert history.run("rollback")[0] == 1
    assert history.numbers() == [4, 3]
    current = history.runtime.known.current()
    assert current is not None
    assert (current.number, history.runtime.known.all()[-1].state) == (3, FAILED)


def _with(values: dict[str, str]) -> Release:
    return Release(1, Path("/r"), "m", "docker", "2026-01-01T00:00:00+00:00", values=values)


def test_secrets_of_the_values_are_not_shown(capsys: pytest.CaptureFixture[str]) -> None:
    old = _with({"env.MY_TOKEN": "never-1", "litellm.max_tokens": "1", "litellm.api_token": "never-2", "env.X_KEY": "123"})
    new = replace(
        old,
        values={"env.MY_TOKEN": "never-3", "litellm.max_tokens": "2", "litellm.api_token": "never-4", "env.X_KEY": "456"},
    )
    assert views.change_lines(old, new) == [
        "env.MY_TOKEN: (not shown) -> (not shown)",
        "env.X_KEY: (not shown) -> (not shown)",
        "litellm.api_token: (not shown) -> (not shown)",
        "litellm.max_tokens: 1 -> 2",
    ]
    assert views.change_lines(_with({}), old)[0] == "env.MY_TOKEN: (none) -> (not shown)"
    views.print_releases([old, new], None, as_json=True)
    text = capsys.readouterr().out
    assert "never-" not in text
    values: Any = json.loads(text)[0]["values"]
    assert values == {**dict.fromkeys(old.values, "(not shown)"), "litellm.max_tokens": "1"}


def test_note_that_looks_like_markup_is_shown_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    one = replace(_with({}), state=FAILED, reason="error: engine: [bold]x[/] failed\n  more")
    views.print_releases([one], None, as_json=False)
    assert rows(capsys.readouterr().out)[1][-1] == "engine: [bold]x[/] failed"

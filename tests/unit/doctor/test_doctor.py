"""The examination as a whole: nothing stops it, nothing secret leaves it, and it works with nothing there."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

import pytest

from stack import settings
from stack.doctor import show
from stack.doctor.examine import CHECKS, broken, examine
from stack.doctor.finding import FAULT, NONE, OK, WARNING, Check, Finding, ok
from stack.doctor.knobs import DEFAULTS, knobs
from stack.doctor.probe import Probe, limited, size, version
from tests.unit.doctor.machines import Machine, says

REPOSITORY = Path(__file__).resolve().parents[3]
SECRET = "sk-a-secret-nobody-may-see"


def _raises(error: BaseException) -> Check:
    def run(probe: Probe) -> Iterable[Finding]:
        raise error

    return Check("c", run)


@pytest.mark.parametrize(
    ("error", "words", "cure"),
    [
        (ValueError("no sense"), "ValueError: no sense", "report"),
        (PermissionError(13, "Permission denied", "/sys/x"), "/sys/x: Permission denied", "can be read"),
        (ModuleNotFoundError("No module named 'yaml'", name="yaml"), "package yaml", "./runMe.sh"),
        (TimeoutError(), "did not answer in time", "hangs"),
    ],
)
def test_a_check_that_raises_is_a_line(machine: Machine, error: BaseException, words: str, cure: str) -> None:
    found = examine(machine.probe(), [_raises(error), Check("next", lambda _: [ok("goes on")])])
    says(found, WARNING, words, cure=cure)
    says(found, OK, "goes on")


def test_a_check_that_hangs_is_a_line(machine: Machine) -> None:
    def hang(probe: Probe) -> Iterable[Finding]:
        time.sleep(30)
        return []

    began = time.monotonic()
    found = examine(machine.probe(), [Check("hangs", hang), Check("next", lambda _: [ok("goes on")])], limit=0.3)
    assert time.monotonic() - began < 2
    says(found, WARNING, "not finished within 0.3 s", cure="hangs")
    says(found, OK, "goes on")


def test_a_call_without_a_limit_gets_one() -> None:
    assert limited(lambda: 7, 1) == 7
    with pytest.raises(TimeoutError):
        limited(lambda: time.sleep(10), 0.1)
    with pytest.raises(KeyError):
        limited(lambda: DEFAULTS["x"], 1)


def test_a_program_that_hangs_is_ended_with_its_children(machine: Machine) -> None:
    machine.program("slow", "/bin/sleep 61.25 & wait")
    probe = machine.probe()
    probe.seconds = 0.3
    assert probe.run("slow").late
    left = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True).stdout
    assert "sleep 61.25" not in left


def test_secrets_are_never_shown(machine: Machine) -> None:
    machine.layout.secrets.mkdir()
    (machine.layout.secrets / "POSTGRES_PASSWORD").write_text("hunter2hunter2\n")
    (machine.layout.secrets / "HF_TOKEN").write_text("base/64+of=\n")
    machine.environ["SOME_API_KEY"] = "plain-value-of-a-key"
    texts = [
        "a hunter2hunter2 b",
        "base/64+of= a key",
        "plain-value-of-a-key",
        "http://me:word@host/",
        f"{SECRET}",
        "hf_0123456789",
        "sk-FAKE stays",
    ]
    found = examine(machine.probe(), [Check("c", lambda _: [Finding(FAULT, text, text) for text in texts])])
    shown = str(found)
    for secret in ("hunter2", "plain-value", "word@", "64+of", "a-secret-nobody", "0123456789"):
        assert secret not in shown
    assert "sk-FAKE stays" in shown


def test_defaults_are_those_of_the_settings() -> None:
    assert {key: settings.BY_KEY[key].default for key in DEFAULTS} == dict(DEFAULTS)


def test_settings_without_the_packages_that_read_them(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    (machine.root / "vars.local.env").write_text("export HF_HOME='/srv/hf' \nCHAT=TRUE\nCHAT_PORT=x\n# RUNTIME=docker\n")
    monkeypatch.setitem(sys.modules, "stack.plan", None)
    monkeypatch.delattr("stack.plan", raising=False)
    found = knobs(machine.probe())
    assert (found.missing, found["HF_HOME"], found["CHAT"], found["CHAT_PORT"]) == ("stack.plan", "/srv/hf", True, 3000)
    assert (found["MODEL"], found.repository, found["RUNTIME"]) == ("m", "org/m", "auto")
    assert str(found["LITELLM_PORT"]) == machine.environ["LITELLM_PORT"]
    machine.environ["MODEL"] = "smollm2-135m"
    assert knobs(machine.probe()).offline
    says(machine.find("configuration"), WARNING, "not examined", cure="./runMe.sh config")


def test_bare_machine_is_quick_and_complete(machine: Machine) -> None:
    began = time.monotonic()
    found = examine(machine.probe())
    assert time.monotonic() - began < 5
    assert {one.check for one in found} == {check.name for check in CHECKS}
    for one in found:
        assert bool(one.cure) == (one.level in (WARNING, FAULT)), one
        assert "not examined" not in one.what, one
    assert broken(found)
    says([one for one in found if one.check == "Docker engine"], NONE, "not installed")


def test_what_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    found = [Finding(OK, "fine", "", "one"), Finding(FAULT, "broken", "mend it", "two")]
    show.show(found, 1.24, as_json=False)
    assert capsys.readouterr().out.splitlines() == [
        "ok              one  fine",
        "fault           two  broken",
        "                     -> mend it",
        "",
        "1 fault (1.2 s)",
    ]
    show.show(found[:1], 0, as_json=False)
    assert "nothing is wrong" in capsys.readouterr().out
    show.show(found, 1.24, as_json=True)
    data = json.loads(capsys.readouterr().out)
    assert data["findings"][1] == {"check": "two", "level": "fault", "what": "broken", "cure": "mend it"}
    assert (data["faults"], data["warnings"], data["seconds"]) == (1, 0, 1.24)


def test_on_a_terminal(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("COLUMNS", "60")
    show.show([Finding(FAULT, "a [bracket] " + "long " * 20, "mend it", "two")], 0, as_json=False)
    out = capsys.readouterr().out
    assert "[bracket]" in out
    assert "-> mend it" in out


def test_texts() -> None:
    assert (size(500), size(5 << 10), size(3 << 30), size(200 << 30)) == ("500 B", "5 KiB", "3.0 GiB", "200 GiB")
    assert (version("28.5.1"), version("v2.26.1-4"), version("none"), version("20.10.24+dfsg1")) == (
        (28, 5, 1),
        (2, 26, 1),
        (),
        (20, 10, 24),
    )


@pytest.fixture
def bare_path(tmp_path: Path) -> Path:
    """A PATH with what any Linux has and a Python without packages: no Docker, no GPU."""
    folder = tmp_path / "path"
    folder.mkdir()
    for name in ("bash", "env", "uname", "dirname", "cat", "stat", "sha256sum", "cut", "sh"):
        found = shutil.which(name)
        assert found
        (folder / name).symlink_to(found)
    # -S: without site-packages. sys.executable is that of an environment, which has all of them.
    python = folder / "python3"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} -S "$@"\n')
    python.chmod(0o755)
    return folder


def test_run_me_on_a_bare_machine(tmp_path: Path, bare_path: Path) -> None:
    """No environment and no way to make one, no packages, no HOME, no network, nothing may be written."""
    env = {
        "PATH": str(bare_path),
        "ENVS_DIR": "/proc/none/envs",
        "STATE_DIR": "/proc/none/state",
        "HF_ENDPOINT": "http://127.0.0.1:9",
    }
    done = subprocess.run(
        [str(REPOSITORY / "runMe.sh"), "doctor", "--json"], env=env, cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 1, done.stderr
    assert done.stderr == ""
    data = json.loads(done.stdout)
    found = [Finding(one["level"], one["what"], one["cure"], one["check"]) for one in data["findings"]]
    assert {one.check for one in found} == {check.name for check in CHECKS}
    says(found, FAULT, "/proc/none/state cannot be made", cure="STATE_DIR")
    says(found, WARNING, "package yaml is not there", cure="./runMe.sh")
    says(found, FAULT, "cannot be reached", cure="firewall")
    assert data["seconds"] < 5
    assert not [one for one in found if "mistake in this program" in one.cure]


def test_run_me_without_any_python(tmp_path: Path, bare_path: Path) -> None:
    (bare_path / "python3").unlink()
    env = {"PATH": str(bare_path), "ENVS_DIR": str(tmp_path / "envs")}
    done = subprocess.run([str(REPOSITORY / "runMe.sh"), "doctor"], env=env, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1
    assert "no Python was found" in done.stderr
    assert "apt install python3" in done.stderr


def test_command_line(machine: Machine) -> None:
    """Through the command line proper, with all packages."""
    env = {**os.environ, **machine.environ, "STACK_ROOT": str(machine.root), "STATE_DIR": str(machine.layout.state)}
    env |= {
        "ENVS_DIR": str(machine.layout.environments),
        "SECRETS_DIR": str(machine.layout.secrets),
        "PATH": "/usr/bin:/bin",
    }
    env["RUNTIME"] = "native"
    done = subprocess.run([sys.executable, "-m", "stack", "doctor"], env=env, capture_output=True, text=True)
    assert done.returncode == 1, done.stderr
    assert "MODEL=m (org/m), runtime native" in done.stdout
    assert not machine.layout.state.exists()
    assert not machine.layout.environments.exists()


def test_documentation_names_every_check() -> None:
    text = (REPOSITORY / "docs" / "doctor.md").read_text()
    cells = [line.split("|")[1].strip() for line in text.splitlines() if line.startswith("| ")]
    named = {word.strip() for cell in cells for word in cell.split(",")}
    for check in CHECKS:
        assert check.name in named or check.name.removesuffix(" folder") in named, check.name


def test_run_me_with_an_environment_that_has_lost_its_packages(machine: Machine, bare_path: Path) -> None:
    environment = machine.layout.environments / "cli-0123"
    (environment / "bin").mkdir(parents=True)
    (environment / ".complete").touch()
    (environment / "bin" / "python").symlink_to(bare_path / "python3")
    env = {**machine.environ, "PATH": str(bare_path), "ENVS_DIR": str(machine.layout.environments)}
    done = subprocess.run([str(REPOSITORY / "runMe.sh"), "doctor"], env=env, capture_output=True, text=True)
    assert done.returncode == 1, done.stderr
    assert "the Python package yaml is not there" in done.stdout
    assert done.stderr == ""

"""scripts/setup.sh and what it calls: secrets that are missing, and the password for the database."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from stack.runtime import secret_files

SETUP = Path(__file__).resolve().parents[2] / "scripts" / "setup.sh"
NAMES = [
    "LITELLM_MASTER_KEY",
    "LITELLM_SALT_KEY",
    "VLLM_API_KEY",
    "POSTGRES_PASSWORD",
    "METRICS_API_KEY",
    "GRAFANA_ADMIN_PASSWORD",
]
AS_ROOT = os.geteuid() == 0


@dataclass
class Setup:
    """The script and its folders."""

    secrets: Path
    password: Path
    path: str
    owners: Path

    @property
    def engine(self) -> Path:
        """What the engine is given."""
        return self.secrets.parent / "engine"

    @property
    def chat(self) -> Path:
        """The chat page's volume."""
        return self.secrets.parent / "chat"

    @property
    def metrics(self) -> Path:
        """What Prometheus and Grafana are given."""
        return self.secrets.parent / "metrics"

    def run(self) -> tuple[int, str, str]:
        """Run it; exit status, output, errors."""
        env = {**os.environ, "SECRETS_DIR": str(self.secrets), "PASSWORD_DIR": str(self.password.parent)}
        env |= {"ENGINE_SECRETS_DIR": str(self.engine), "CHAT_DIR": str(self.chat), "METRICS_DIR": str(self.metrics)}
        done = subprocess.run(["bash", str(SETUP)], env={**env, "PATH": self.path}, capture_output=True, text=True)
        return done.returncode, done.stdout, done.stderr

    def contents(self) -> dict[str, tuple[bytes, int]]:
        """Name -> content and time of each secret."""
        return {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in self.secrets.iterdir()}


@pytest.fixture
def setup(tmp_path: Path) -> Setup:
    """With a `chown` that only records what it was to do, as the true one needs root."""
    for name in ("bin", "secrets", "password", "engine", "chat", "metrics"):
        (tmp_path / name).mkdir()
    owners = tmp_path / "owners"
    chown = tmp_path / "bin" / "chown"
    chown.write_text(f'#!/bin/sh\nfor last; do :; done\necho "$*" "$(stat -c %a "$last")" >>{owners}\n')
    chown.chmod(0o755)
    path = f"{tmp_path}/bin:{os.environ['PATH']}"
    return Setup(tmp_path / "secrets", tmp_path / "password" / "POSTGRES_PASSWORD", path, owners)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_makes_what_is_missing(setup: Setup) -> None:
    status, out, err = setup.run()
    assert (status, err) == (0, "")
    assert out == f"made secrets/: {', '.join(NAMES)}\n"
    assert sorted(path.name for path in setup.secrets.iterdir()) == sorted(NAMES)
    assert {mode(path) for path in setup.secrets.iterdir()} == {0o600}
    for name in NAMES:
        value = secret_files.read(setup.secrets, name)
        assert len(value) >= 40
        assert value not in out


def test_the_database_gets_its_password_alone_whole_and_private(setup: Setup) -> None:
    setup.run()
    given = (setup.secrets / "POSTGRES_PASSWORD").read_bytes()
    assert given.endswith(b"\n")
    assert setup.password.read_bytes() == given.rstrip(b"\n")
    assert mode(setup.password) == 0o600
    assert [path.name for path in setup.password.parent.iterdir()] == ["POSTGRES_PASSWORD"]
    # Handed over before it takes its name, and never readable by others: the user `postgres` of the image.
    assert setup.owners.read_text().splitlines()[0] == f"999:999 {setup.password}.new 600"


@pytest.mark.parametrize("ending", ["", "\n", "\r\n", "\n\n"])
def test_line_break_that_an_editor_left_is_taken_off(setup: Setup, ending: str) -> None:
    (setup.secrets / "POSTGRES_PASSWORD").write_bytes(f"my-password{ending}".encode())
    assert setup.run()[0] == 0
    assert setup.password.read_bytes() == b"my-password"
    assert (setup.secrets / "POSTGRES_PASSWORD").read_bytes() == f"my-password{ending}".encode()


def test_again_changes_nothing(setup: Setup) -> None:
    setup.run()
    before, password = setup.contents(), setup.password.read_bytes()
    assert setup.run() == (0, "all secrets are there\n", "")
    assert (setup.contents(), setup.password.read_bytes(), mode(setup.password)) == (before, password, 0o600)


def test_the_engine_gets_the_two_secrets_it_needs(setup: Setup) -> None:
    (setup.secrets / "HF_TOKEN").write_text("hf_mine")
    setup.run()
    assert {path.name: path.read_bytes() for path in setup.engine.iterdir()} == {
        name: (setup.secrets / name).read_bytes() for name in ("VLLM_API_KEY", "HF_TOKEN")
    }
    assert {mode(path) for path in setup.engine.iterdir()} == {0o600}
    # One that is taken back is taken from the engine as well.
    (setup.secrets / "HF_TOKEN").unlink()
    setup.run()
    assert [path.name for path in setup.engine.iterdir()] == ["VLLM_API_KEY"]


def test_the_chat_page_gets_its_volume_and_its_key_if_it_has_one(setup: Setup) -> None:
    setup.run()
    given = setup.chat / "secrets"
    assert list(given.iterdir()) == []
    (setup.secrets / "CHAT_API_KEY").write_text("sk-chat")
    setup.run()
    assert {path.name: (path.read_text(), mode(path)) for path in given.iterdir()} == {"CHAT_API_KEY": ("sk-chat", 0o600)}
    assert setup.owners.read_text().splitlines()[-4:-2] == [
        f"-R 65532:65532 {given} 700",
        f"65532:65532 {setup.chat} {mode(setup.chat):o}",
    ]
    (setup.secrets / "CHAT_API_KEY").unlink()
    setup.run()
    assert list(given.iterdir()) == []


def test_prometheus_and_grafana_get_one_secret_each(setup: Setup) -> None:
    setup.run()
    names = ("METRICS_API_KEY", "GRAFANA_ADMIN_PASSWORD")
    assert {path.name: path.read_text() for path in setup.metrics.iterdir()} == {
        name: secret_files.read(setup.secrets, name) for name in names
    }
    assert {mode(path) for path in setup.metrics.iterdir()} == {0o600}
    assert mode(setup.metrics) == 0o755
    users = ("65534:65534", "472:0")
    given = [f"{user} {setup.metrics / name}.new 600" for user, name in zip(users, names, strict=True)]
    assert setup.owners.read_text().splitlines()[-2:] == given


def test_only_what_is_missing_is_made(setup: Setup) -> None:
    (setup.secrets / "LITELLM_MASTER_KEY").write_text("sk-mine")
    (setup.secrets / "HF_TOKEN").write_text("hf_mine")
    assert setup.run()[1] == f"made secrets/: {', '.join(NAMES[1:])}\n"
    assert (setup.secrets / "LITELLM_MASTER_KEY").read_text() == "sk-mine"
    assert (setup.secrets / "HF_TOKEN").read_text() == "hf_mine"


def test_other_password_replaces_the_earlier_one(setup: Setup) -> None:
    setup.run()
    (setup.secrets / "POSTGRES_PASSWORD").write_text("changed\n")
    assert setup.run()[0] == 0
    assert setup.password.read_text() == "changed"


BAD = {
    "POSTGRES_PASSWORD": (
        "a/b@never",
        "error: secrets/POSTGRES_PASSWORD: may have letters, digits and . _ ~ - only\n"
        "  it becomes part of a database address\n",
    ),
    "LITELLM_MASTER_KEY": (
        "never",
        "error: secrets/LITELLM_MASTER_KEY: has to begin with sk-\n  LiteLLM asks for it\n",
    ),
    "HF_TOKEN": (
        "never\nnever\n",
        "error: secrets/HF_TOKEN: has more than one line\n  a secret is one line of text\n",
    ),
    "VLLM_API_KEY": (
        "\n",
        "error: secrets/VLLM_API_KEY: is empty or larger than 64 KiB\n  write the secret into it, or delete it\n",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_secret_stops_it_before_anything_is_made(setup: Setup, name: str) -> None:
    content, message = BAD[name]
    (setup.secrets / name).write_text(content)
    assert setup.run() == (2, "", message)
    assert [path.name for path in setup.secrets.iterdir()] == [name]
    assert list(setup.password.parent.iterdir()) == []


def test_all_bad_secrets_are_named(setup: Setup) -> None:
    for name, (content, _) in BAD.items():
        (setup.secrets / name).write_text(content)
    status, _, err = setup.run()
    assert status == 2
    assert {name for name in BAD if f"secrets/{name}:" in err} == set(BAD)
    assert "never" not in err


def test_password_that_cannot_be_handed_over_leaves_the_earlier_one(setup: Setup, tmp_path: Path) -> None:
    setup.run()
    before = setup.password.read_bytes()
    (tmp_path / "bin" / "chown").write_text("#!/bin/sh\necho 'chown: no' >&2\nexit 1\n")
    (setup.secrets / "POSTGRES_PASSWORD").write_text("changed\n")
    status, _, err = setup.run()
    assert (status, err) == (1, "chown: no\n")
    assert setup.password.read_bytes() == before


@pytest.mark.skipif(not AS_ROOT, reason="only root may give files away")
def test_what_root_makes_belongs_to_the_folders_owner(setup: Setup, tmp_path: Path) -> None:
    (setup.secrets / "HF_TOKEN").write_text("hf_mine")
    os.chown(setup.secrets, 1234, 5678)
    (tmp_path / "bin" / "chown").unlink()
    assert setup.run()[0] == 0
    owners = {path.name: (path.stat().st_uid, path.stat().st_gid) for path in setup.secrets.iterdir()}
    assert owners == {**dict.fromkeys(NAMES, (1234, 5678)), "HF_TOKEN": (0, 0)}
    assert (setup.password.stat().st_uid, setup.password.stat().st_gid) == (999, 999)
    assert mode(setup.password) == 0o600


def _main(folder: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[int, list[tuple[str, int, int]]]:
    """secret_files.main as if root ran it; exit status, and what was given to whom."""
    given: list[tuple[str, int, int]] = []
    monkeypatch.setattr(sys, "argv", ["secret_files", str(folder)])
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(os, "chown", lambda path, uid, gid: given.append((Path(path).name, uid, gid)))
    return secret_files.main(), given


def test_only_new_secrets_are_given_to_the_owner(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "VLLM_API_KEY").write_text("sk-mine")
    uid, gid = tmp_path.stat().st_uid, tmp_path.stat().st_gid
    others = [name for name in NAMES if name != "VLLM_API_KEY"]
    assert _main(tmp_path, monkeypatch) == (0, [(name, uid, gid) for name in others])
    assert _main(tmp_path, monkeypatch) == (0, [])
    assert capsys.readouterr().out == f"made secrets/: {', '.join(others)}\nall secrets are there\n"


def test_another_user_gives_nothing_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["secret_files", str(tmp_path)])
    monkeypatch.setattr(os, "geteuid", lambda: 1000)

    def refuse(*_: object) -> None:
        raise AssertionError("chown by a user who may not")

    monkeypatch.setattr(os, "chown", refuse)
    assert secret_files.main() == 0


def test_folder_that_cannot_be_written_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    assert _main(tmp_path / "file", monkeypatch) == (2, [])
    assert capsys.readouterr().err == f"error: {tmp_path}/file: cannot be written to: File exists\n"

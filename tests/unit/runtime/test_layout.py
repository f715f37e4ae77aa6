"""Where everything lies."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from stack.runtime.layout import REPOSITORY, Layout, file_digest


@pytest.mark.parametrize(
    ("environ", "folders"),
    [
        (
            {},
            (REPOSITORY, REPOSITORY / ".state", REPOSITORY / "secrets", REPOSITORY / ".state/envs"),
        ),
        (
            {"STACK_ROOT": "/a"},
            (Path("/a"), Path("/a/.state"), Path("/a/secrets"), REPOSITORY / ".state/envs"),
        ),
        (
            {"STACK_ROOT": "/a", "STATE_DIR": "/b/../c", "SECRETS_DIR": "/d", "ENVS_DIR": "/e"},
            (Path("/a"), Path("/c"), Path("/d"), Path("/e")),
        ),
        (
            {"STACK_ROOT": "", "STATE_DIR": "", "SECRETS_DIR": "", "ENVS_DIR": ""},
            (REPOSITORY, REPOSITORY / ".state", REPOSITORY / "secrets", REPOSITORY / ".state/envs"),
        ),
    ],
    ids=["defaults", "other-root", "all", "empty-is-unset"],
)
def test_folders(environ: dict[str, str], folders: tuple[Path, ...]) -> None:
    layout = Layout.from_environ(environ)
    assert (layout.root, layout.state, layout.secrets, layout.environments) == folders


def test_everything_written_lies_under_the_state_folder() -> None:
    layout = Layout.from_environ({"STACK_ROOT": "/a", "STATE_DIR": "/s", "ENVS_DIR": "/s/envs"})
    written = [
        layout.generated,
        layout.releases,
        layout.logs,
        layout.run,
        layout.postgres,
        layout.weights,
        layout.log("engine"),
    ]
    assert written == [
        Path("/s/generated_configs"),
        Path("/s/releases"),
        Path("/s/logs"),
        Path("/s/run"),
        Path("/s/postgres"),
        Path("/s/envs/weights"),
        Path("/s/logs/engine.log"),
    ]


def test_programs_are_the_repositorys_own() -> None:
    layout = Layout.from_environ({"STACK_ROOT": "/a"})
    assert (layout.scripts / "entrypoint.sh").is_file()
    assert (layout.requirements / "cli.txt").is_file()


def test_file_digest(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"one")
    (tmp_path / "b").write_bytes(b"two")
    assert file_digest(tmp_path / "a", tmp_path / "b") == hashlib.sha256(b"onetwo").hexdigest()[:12]

"""Secrets the stack makes for itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from stack.errors import ConfigError
from stack.runtime import secret_files

NAMES = list(secret_files.GENERATED)


def test_ensure_makes_random_private_files_once(tmp_path: Path) -> None:
    folder = tmp_path / "secrets"
    assert secret_files.ensure(folder) == NAMES
    values = {name: secret_files.read(folder, name) for name in NAMES}
    assert len(set(values.values())) == len(NAMES)
    assert {name: value.startswith("sk-") for name, value in values.items()} == {
        name: not name.endswith("PASSWORD") for name in NAMES
    }
    assert min(len(value) for value in values.values()) >= 40
    assert {(folder / name).stat().st_mode & 0o777 for name in NAMES} == {0o600}
    assert folder.stat().st_mode & 0o777 == 0o700
    assert secret_files.check(folder, {}) == []
    assert secret_files.ensure(folder) == []
    assert {name: secret_files.read(folder, name) for name in NAMES} == values


def test_ensure_leaves_what_people_gave(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "elsewhere").write_text("sk-mine\r\n")
    (tmp_path / "VLLM_API_KEY").symlink_to("nowhere")
    monkeypatch.setenv("LITELLM_MASTER_KEY_FILE", str(tmp_path / "elsewhere"))
    assert secret_files.ensure(tmp_path) == [
        "LITELLM_SALT_KEY",
        "POSTGRES_PASSWORD",
        "METRICS_API_KEY",
        "GRAFANA_ADMIN_PASSWORD",
    ]
    assert secret_files.read(tmp_path, "LITELLM_MASTER_KEY") == "sk-mine"
    assert (tmp_path / "VLLM_API_KEY").is_symlink()


def test_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be written to"):
        secret_files.ensure(tmp_path / "file")


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        (
            "POSTGRES_PASSWORD",
            "a/b@c",
            "error: secrets/POSTGRES_PASSWORD: may have letters, digits and . _ ~ - only\n  it becomes part of a database address",
        ),
        ("LITELLM_MASTER_KEY", "abc", "error: secrets/LITELLM_MASTER_KEY: has to begin with sk-\n  LiteLLM asks for it"),
    ],
)
def test_content(tmp_path: Path, name: str, content: str, problem: str) -> None:
    (tmp_path / name).write_text(content)
    assert [str(found) for found in secret_files.check(tmp_path, {})] == [problem]


def test_all_problems_at_once(tmp_path: Path) -> None:
    (tmp_path / "VLLM_API_KEY").write_text("")
    (tmp_path / "HF_TOKEN").mkdir()
    found = secret_files.check(tmp_path, {"LITELLM_SALT_KEY": "a", "LITELLM_SALT_KEY_FILE": "b"})
    assert [problem.place for problem in found] == ["LITELLM_SALT_KEY", "secrets/VLLM_API_KEY", "secrets/HF_TOKEN"]

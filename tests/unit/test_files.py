"""Files are written whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from stack.errors import RunError
from stack.files import write_atomic


def test_writes_text_and_bytes_with_mode(tmp_path: Path) -> None:
    write_atomic(tmp_path / "new" / "text", "größe\n")
    write_atomic(tmp_path / "raw", b"\0\xff", mode=0o600)
    assert (tmp_path / "new" / "text").read_bytes() == "größe\n".encode()
    assert (tmp_path / "raw").read_bytes() == b"\0\xff"
    assert [(tmp_path / name).stat().st_mode & 0o777 for name in ("new/text", "raw")] == [0o644, 0o600]


def test_replaces_and_leaves_nothing_beside(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old and longer")
    write_atomic(path, "new")
    assert path.read_text() == "new"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_bytes_that_are_no_text_survive(tmp_path: Path) -> None:
    write_atomic(tmp_path / "file", os.fsdecode(b"a\xffb"))
    assert (tmp_path / "file").read_bytes() == b"a\xffb"


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_failure_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    path = tmp_path / "file"
    path.write_text("old")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, step, full)
    with pytest.raises(RunError) as caught:
        write_atomic(path, "new")
    assert str(caught.value) == f"error: {path}: cannot be written: No space left on device\n  check space and permissions"
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot be written"):
        write_atomic(tmp_path / "file" / "below", "x")

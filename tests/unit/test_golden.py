"""Each case of tests/golden through the two real generator scripts, compared whole. UPDATE_GOLDEN=1 writes them anew."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

REPOSITORY = Path(__file__).resolve().parents[2]
GOLDEN = REPOSITORY / "tests" / "golden"
CASES = sorted(path.parent.name for path in GOLDEN.glob("*/case.yml"))
EXPECTED = ("models.yml", "config.yaml", "engine.argv")


def _prepare(case: Path, root: Path) -> None:
    """The repository's own files, and over them those of the case."""
    root.mkdir()
    shutil.copytree(REPOSITORY / "models", root / "models")
    for name in ("vars.env", "litellm_config.template.yaml"):
        shutil.copy(REPOSITORY / name, root / name)
    if (case / "input").exists():
        shutil.copytree(case / "input", root, dirs_exist_ok=True)


def _generate(case: Path, root: Path, out: Path) -> None:
    given: dict[str, Any] = yaml.safe_load((case / "case.yml").read_text())
    environment = {**os.environ, "HOME": "/home/somebody", **given.get("environment", {})}
    where = ["--root", str(root), "--output", str(out)]
    sets = [word for text in given.get("set", []) for word in ("--set", text)]
    model = ["--model", given["model"]] if "model" in given else []
    for program in (
        ["bash", str(REPOSITORY / "scripts" / "gen_models_yml.sh"), *model],
        [sys.executable, str(REPOSITORY / "scripts" / "generate_litellm_config.py")],
    ):
        done = subprocess.run([*program, *where, *sets], env=environment, capture_output=True, text=True, timeout=30)
        assert (done.returncode, done.stderr) == (0, given.get("notes", "") if "python" in Path(program[0]).name else "")


@pytest.mark.parametrize("name", CASES)
def test_golden(tmp_path: Path, name: str) -> None:
    case, out = GOLDEN / name, tmp_path / "out"
    _prepare(case, tmp_path / "root")
    _generate(case, tmp_path / "root", out)
    made = {file: (out / file).read_text() for file in EXPECTED}
    made["engine.argv"] = made["engine.argv"].replace("\0", "\n")
    if os.environ.get("UPDATE_GOLDEN"):
        for file, text in made.items():
            (case / "expected").mkdir(exist_ok=True)
            (case / "expected" / file).write_text(text)
    assert made == {file: (case / "expected" / file).read_text() for file in EXPECTED}


def test_every_shipped_fragment_has_a_case() -> None:
    shipped = {path.stem for path in (REPOSITORY / "models").glob("*.yml")}
    assert shipped <= set(CASES)
    assert len(CASES) >= len(shipped) + 4

"""What runMe.sh remembers of the Python it found."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

RUN_ME = Path(__file__).resolve().parents[2] / "runMe.sh"
# Answers as a Python would, notes each call, and makes environments whose Python only says that it was reached.
PYTHON = """#!/bin/sh
echo "$1 $2" >>"$CALLS"
case "$1 $2" in
"-m venv")
  mkdir -p "$3/bin"
  printf '#!/bin/sh\\n[ "$2" = pip ] || echo "reached $0"\\n' >"$3/bin/python"
  chmod +x "$3/bin/python"
  ;;
*"print(sys.version)"*) echo 3.12 ;;
esac
"""


def run(folder: Path) -> tuple[str, list[str]]:
    """What the environment's Python said, and the calls of the one that was found."""
    calls = folder / "calls"
    calls.write_text("")
    env = {**os.environ, "PYTHON": str(folder / "python"), "ENVS_DIR": str(folder / "envs"), "CALLS": str(calls)}
    done = subprocess.run([str(RUN_ME), "models"], env=env, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip(), calls.read_text().splitlines()


def test_pythons_are_asked_once_until_they_change(tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text(PYTHON)
    python.chmod(0o755)
    said, calls = run(tmp_path)
    assert said.startswith("reached ")
    assert calls

    assert run(tmp_path) == (said, [])

    python.write_text(PYTHON + "# another version\n")
    assert run(tmp_path)[1]
    assert run(tmp_path) == (said, [])

    # An environment that has lost its Python does not count.
    (environment,) = (tmp_path / "envs").glob("cli-*/bin")
    (environment / "python").rename(environment / "moved")
    (environment.parent / ".complete").unlink()
    assert run(tmp_path)[1]


def test_another_version_of_a_version_manager_is_noticed(tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text(PYTHON)
    python.chmod(0o755)
    run(tmp_path)
    (tmp_path / ".python-version").write_text("3.13\n")
    assert run(tmp_path)[1]

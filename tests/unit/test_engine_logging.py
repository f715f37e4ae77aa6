"""The logging configuration that vLLM is given, without vLLM or uvicorn: plain formats, the same levels and streams."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
PROGRAM = """\
import json, logging, logging.config, sys
config = json.load(open(sys.argv[1]))
for _ in range(2):  # vLLM applies it, and so does uvicorn
    logging.config.dictConfig(config)
log = logging.getLogger("vllm.engine")
log.debug("not shown")
log.info("Starting to load model %s...", "m")
log.info("%s said", "Application startup complete")
log.error("an error")
print("handlers:", [handler.name for handler in logging.getLogger("vllm").handlers])
print("phase:", open(sys.argv[2]).read().split(" ", 1)[1].strip())
logging.getLogger("uvicorn.error").info("Application startup complete.")
logging.getLogger("uvicorn.access").info("GET /")
print("phase:", open(sys.argv[2]).read().split(" ", 1)[1].strip())
"""


def run(folder: Path, **environment: str) -> tuple[list[str], list[str]]:
    """What the program printed: output, errors."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(SCRIPTS / "engine_logging.json"), str(folder / "phase")],
        env={**os.environ, "PYTHONPATH": str(SCRIPTS), "CONFIG_DIR": str(folder), **environment},
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines(), done.stderr.splitlines()


def test_phases_are_noted_and_everything_is_printed(tmp_path: Path) -> None:
    out, err = run(tmp_path)
    assert [line for line in out if line.startswith("phase:")] == ["phase: loading the model's weights", "phase: ready"]
    assert "handlers: ['vllm']" in out
    assert [line.rsplit("] ", 1)[1] for line in out if line.startswith(("INFO ", "ERROR "))] == [
        "Starting to load model m...",
        "Application startup complete said",
        "an error",
    ]
    assert err == ["INFO: Application startup complete."]
    assert [line for line in out if re.fullmatch(r"\d\d-\d\d \d\d:\d\d:\d\d INFO: GET /", line)] != []


def test_level_and_stream_are_the_users(tmp_path: Path) -> None:
    out, err = run(tmp_path, VLLM_LOGGING_LEVEL="error", VLLM_LOGGING_STREAM="ext://sys.stderr")
    assert [line for line in out if line.startswith("phase:")] == ["phase: loading the model's weights", "phase: ready"]
    assert [line for line in err if "load model" in line] == []
    assert [line for line in err if line.endswith("an error")] != []


def test_without_a_folder_it_only_logs(tmp_path: Path) -> None:
    (tmp_path / "phase").write_text("17 stopping\n")
    out, _ = run(tmp_path, CONFIG_DIR="")
    assert [line for line in out if line.startswith("phase:")] == ["phase: stopping", "phase: stopping"]

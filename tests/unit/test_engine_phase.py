"""Phases of a loading engine: recognised in its log, handed over in a file, told to clients."""

from __future__ import annotations

from pathlib import Path

import pytest

from stack import engine_phase
from stack.engine_phase import Phase
from stack.runtime import engine_log

LOG = """\
starting: vllm serve m --port 8000
(EngineCore pid=1) INFO 11-24 10:59:12 [core.py:133] Initializing a V1 LLM engine (v0.32.0) with config: model='m'
(Worker pid=2) INFO 11-24 10:59:20 [cpu_model_runner.py:68] Starting to load model m...
(Worker pid=2) INFO 11-24 10:59:20 [base_loader.py:82] Initializing model took 0.149393 seconds
(Worker pid=2) INFO 11-24 10:59:21 [default_loader.py:501] Loading weights took 0.74 seconds
(EngineCore pid=1) INFO 11-24 10:59:22 [kv_cache_utils.py:2327] CPU KV cache size: 93,184 tokens
Capturing CUDA graphs (PIECEWISE):  50%|#####     | 1/2 [00:00<00:00,  1.36it/s]
(EngineCore pid=1) INFO 11-24 10:59:28 [core.py:402] init engine (profile, create kv cache, warmup model) took 5.65 s
INFO:     Application startup complete.
(APIServer pid=3) INFO 11-24 11:29:54 [launcher.py:254] [shutdown] API server: shutdown triggered
"""


def test_a_log_tells_the_phases_in_order() -> None:
    found = [engine_phase.recognise(line) for line in LOG.splitlines()]
    assert [name for name in found if name] == [
        "starting Python and vLLM",
        "loading the model",
        "loading the model's weights",
        "preparing memory",
        "warming up",
        "capturing CUDA graphs",
        "opening its port",
        "ready",
        "stopping",
    ]


@pytest.mark.parametrize(
    ("lines", "expected"),
    [(0, ""), (1, "starting Python and vLLM"), (4, "loading the model's weights"), (9, ""), (10, "stopping")],
)
def test_status_reads_the_newest_line(lines: int, expected: str) -> None:
    assert engine_log.phase_of(LOG.splitlines()[:lines]) == expected


def note(folder: Path, line: str) -> str:
    engine_phase.note(line, {"CONFIG_DIR": str(folder)})
    return engine_phase.read(folder).name


def test_note_writes_one_whole_file_that_others_may_read(tmp_path: Path) -> None:
    assert note(tmp_path, "Starting to load model %s...") == "loading the model's weights"
    assert [path.name for path in tmp_path.iterdir()] == ["phase"]
    assert (tmp_path / "phase").stat().st_mode & 0o777 == 0o644
    assert engine_phase.read(tmp_path).since > 1_700_000_000


def test_the_first_process_decides_when_a_phase_began(tmp_path: Path) -> None:
    (tmp_path / "phase").write_text("17 loading the model's weights\n")
    note(tmp_path, "Starting to load model %s...")
    assert engine_phase.read(tmp_path) == Phase("loading the model's weights", 17)


@pytest.mark.parametrize("end", ["ready", "stopping", "ending after a fatal error"])
def test_nothing_goes_back_to_loading(tmp_path: Path, end: str) -> None:
    (tmp_path / "phase").write_text(f"17 {end}\n")
    assert note(tmp_path, "Starting torch.compile") == end
    assert note(tmp_path, "Application startup complete.") == end
    assert note(tmp_path, "[shutdown] API server: shutdown triggered") == "stopping"


def test_note_never_raises(tmp_path: Path) -> None:
    engine_phase.note("Starting to load model", {})
    engine_phase.note("Starting to load model", {"CONFIG_DIR": str(tmp_path / "gone")})
    (tmp_path / "phase").mkdir()
    engine_phase.note("Starting to load model", {"CONFIG_DIR": str(tmp_path)})
    assert [path.name for path in tmp_path.iterdir()] == ["phase"]


@pytest.mark.parametrize("text", [None, "", "17", "ready", "x ready", "\x00"])
def test_a_file_that_says_nothing_means_loading(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "phase").write_text(text)
    assert engine_phase.read(tmp_path) == Phase("loading the model")


@pytest.mark.parametrize(
    ("phase", "sentence", "seconds"),
    [
        (Phase("loading the model's weights", 38), "the engine is loading the model's weights (62 s so far); try again", 5),
        (Phase("loading the model"), "the engine is loading the model; try again", 5),
        (Phase("warming up", 200), "the engine is warming up (0 s so far); try again", 2),
        (Phase("opening its port", 99), "the engine is opening its port (1 s so far); try again", 1),
        (Phase("ready", 17), "the engine has ended or is being started again; try again", 2),
        (Phase("stopping", 17), "the engine is stopping or has stopped; try again when it is back", 5),
    ],
)
def test_what_a_client_is_told(phase: Phase, sentence: str, seconds: int) -> None:
    assert (phase.sentence(100), phase.retry_after) == (sentence, seconds)

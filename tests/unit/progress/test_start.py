"""Whole starts, played from a log with times: what is printed, and what is remembered.

The goldens are made anew with UPDATE_GOLDEN=1.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from stack import engine_phase
from stack.display import Lines
from stack.errors import Problem
from stack.progress import timings
from stack.progress.follow import Line
from stack.progress.start import Start
from stack.progress.timings import Key
from stack.runtime.watch import EARLIER, KEY_MISSING, Part

GOLDEN = Path(__file__).parents[2] / "golden" / "startup"
KEY = Key("smollm2-135m", "92f8", "engine-cpu-py3.11-ef35", "native")
# Seconds, and lines as vLLM 0.32 prints them.
LOG = (
    (1.0, "starting: vllm serve m"),
    (9.0, "(EngineCore pid=1) INFO 11-24 10:59:12 [core.py:133] Initializing a V1 LLM engine (v0.32.0) with config: m"),
    (15.0, "(Worker pid=2) INFO 11-24 10:59:20 [cpu_model_runner.py:68] Starting to load model m..."),
    (18.0, "Loading safetensors checkpoint shards:  25% Completed | 2/8 [00:03<00:09,  1.50s/it]"),
    (24.0, "Loading safetensors checkpoint shards:  75% Completed | 6/8 [00:09<00:03,  1.50s/it]"),
    (27.0, "(Worker pid=2) INFO 11-24 10:59:21 [default_loader.py:501] Loading weights took 12.00 seconds"),
    (28.0, "(EngineCore pid=1) INFO 11-24 10:59:22 [kv_cache_utils.py:2327] CPU KV cache size: 93,184 tokens"),
    (
        30.0,
        "(EngineCore pid=1) INFO 11-24 10:59:28 [core.py:402] init engine (profile, create kv cache, warmup model) took 5 s",
    ),
    (31.0, "INFO:     Application startup complete."),
)
Script = Callable[[float], Part | None]


def engine(seconds: float, ready: float = 31.0) -> Part | None:
    return Part("engine", "starting", "loading the model", 1, seconds) if seconds < ready else None


def gateway(seconds: float) -> Part | None:
    if seconds >= 14:
        return None
    return Part("gateway", "starting", KEY_MISSING if seconds >= 13 else "does not answer yet", 1, seconds)


@dataclass
class Play:
    """Plays a start, two looks a second."""

    folder: Path
    log: list[tuple[float, str]] = field(default_factory=lambda: list(LOG))
    scripts: dict[str, Script] = field(default_factory=lambda: {"engine": engine, "gateway": gateway})
    key: Key = KEY
    weights: Callable[[float], tuple[int, int] | None] = lambda seconds: None
    fails_at: float = 1e9
    now: float = 0.0
    printed: str = ""
    problem: Problem | None = None

    def read(self) -> list[Line]:
        due = [(1000 + when, text) for when, text in self.log if when <= self.now]
        self.log = [one for one in self.log if one[0] > self.now]
        return due

    def close(self) -> None:
        """Nothing is open."""

    def clock(self) -> float:
        return 1000 + self.now

    def run(self) -> Play:
        output = io.StringIO()
        report = Lines(self.clock, output)
        usual = self.folder / "usual"
        start = Start(
            report, self.folder / "timings.json", self.key, self, usual, lambda: self.weights(self.now), self.clock
        )
        start.begin()
        waiting = dict(self.scripts)
        while waiting:
            for name, script in list(waiting.items()):
                part = script(self.now)
                if part is None:
                    del waiting[name]
                    start.ready(name)
                    report.finished(name, f"ready after {self.now:.1f} s")
                else:
                    start.look(part)
            report.beat()
            if self.now >= self.fails_at:
                self.problem = start.explained("engine", Problem("models/m.yml:8", "too long", "shorten it"))
                break
            self.now += 0.5
        else:
            start.done()
        self.printed = output.getvalue()
        return self


def check(name: str, printed: str) -> None:
    file = GOLDEN / f"{name}.txt"
    if os.environ.get("UPDATE_GOLDEN"):
        file.parent.mkdir(exist_ok=True)
        file.write_text(printed)
    assert printed == file.read_text()
    assert all(character.isprintable() or character == "\n" for character in printed)


def test_first_start(tmp_path: Path) -> None:
    check("first", Play(tmp_path).run().printed)
    (past,) = timings.read(tmp_path / "timings.json")
    assert past.seconds == pytest.approx(31.0, abs=0.6)
    assert dict(past.parts["engine"]) == pytest.approx(
        {
            "starting Python and vLLM": 9.0,
            "loading the model": 6.0,
            "loading the model's weights": 12.0,
            "preparing memory": 1.0,
            "warming up": 2.0,
            "opening its port": 1.0,
        },
        abs=0.6,
    )
    assert dict(past.parts["gateway"]) == pytest.approx({"starting": 13.0, "making the local key": 1.0}, abs=0.6)


def test_second_start_knows_how_long_it_takes(tmp_path: Path) -> None:
    Play(tmp_path).run()
    check("second", Play(tmp_path).run().printed)
    # What the gateway tells clients is there before the engine starts.
    assert (tmp_path / "usual").read_text().startswith("9.0 starting Python and vLLM\n6.0 loading the model\n")


def test_a_start_that_takes_longer_says_so(tmp_path: Path) -> None:
    Play(tmp_path).run()
    log = [(when + (25 if when > 20 else 0), text) for when, text in LOG]
    play = Play(tmp_path, log, {"engine": lambda seconds: engine(seconds, 56.0), "gateway": gateway}).run()
    check("overrun", play.printed)
    assert "; longer than last time (31 s), at least 4 s left" in play.printed


def test_a_start_that_fails_names_the_step(tmp_path: Path) -> None:
    def ends(seconds: float) -> Part:
        if 20 <= seconds < 21:
            return Part("engine", "restarting", "exit status 1", restarts=1)
        if seconds >= 40:
            return Part("engine", "restarting", "exit status 1", restarts=2)
        return Part("engine", "starting", "loading the model", 1, seconds, restarts=int(seconds >= 21))

    log = [*LOG[:4], *((when + 21, text) for when, text in LOG[:3])]
    play = Play(tmp_path, log, {"engine": ends, "gateway": gateway}, fails_at=40).run()
    check("failed", play.printed)
    assert str(play.problem).startswith(
        "error: models/m.yml:8: failed while loading the model's weights after 20 s: too long\n  shorten it"
    )
    assert timings.read(tmp_path / "timings.json") == []


def test_a_download_has_bytes_and_is_not_remembered(tmp_path: Path) -> None:
    def weights(seconds: float) -> tuple[int, int] | None:
        return (int((seconds - 16) * 50e6), 2_000_000_000) if 16 < seconds < 56 else None

    log = [(when + (40 if when > 15 else 0), text) for when, text in LOG]
    play = Play(tmp_path, log, {"engine": lambda seconds: engine(seconds, 71.0), "gateway": gateway}, weights=weights).run()
    check("download", play.printed)
    (past,) = timings.read(tmp_path / "timings.json")
    assert past.seconds == pytest.approx(31, abs=3)
    assert "downloading the model's weights" not in dict(past.parts["engine"])


def test_only_the_gateway_is_started_anew(tmp_path: Path) -> None:
    Play(tmp_path).run()
    before = (tmp_path / "timings.json").read_text()
    stopping = Part("gateway", "starting", EARLIER)
    play = Play(tmp_path, [], {"gateway": lambda seconds: stopping if seconds < 3 else gateway(seconds - 3)}).run()
    check("gateway", play.printed)
    assert (tmp_path / "timings.json").read_text() == before


def test_nothing_is_said_where_nothing_starts(tmp_path: Path) -> None:
    play = Play(tmp_path, [], {"engine": lambda seconds: None, "gateway": lambda seconds: None}).run()
    assert play.printed == "engine: ready after 0.0 s\ngateway: ready after 0.0 s\n"


def test_who_joins_a_start_sees_how_long_it_has_been_going_on(tmp_path: Path) -> None:
    Play(tmp_path).run()
    log = [(when - 20, text) for when, text in LOG]
    joined = Play(tmp_path, log, {"engine": lambda seconds: engine(seconds + 20)})
    printed = joined.run().printed
    assert "engine: loading the model's weights" in printed
    assert "in all: ready after 31 s (last time 31 s)" in printed
    assert len(timings.read(tmp_path / "timings.json")) == 1


def test_what_clients_are_told_is_the_same(tmp_path: Path) -> None:
    Play(tmp_path).run()
    (tmp_path / "phase").write_text("1000 loading the model's weights\n")
    phase = engine_phase.read(tmp_path)
    assert phase.sentence(1004) == "the engine is loading the model's weights (4 s so far, about 12 s left); try again"
    assert phase.sentence(1020) == "the engine is loading the model's weights (20 s so far, at least 4 s left); try again"
    (tmp_path / "usual").write_text("no number\n")
    assert engine_phase.read(tmp_path).sentence(1004) == "the engine is loading the model's weights (4 s so far); try again"

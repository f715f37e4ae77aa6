"""The figures from what the real engine offered, and the screen in each state."""

from __future__ import annotations

import io
import json
import math
import os
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from stack import cli, hidden
from stack.errors import Problem, RunError
from stack.runtime.layout import Layout
from stack.runtime.watch import Part
from stack.status import command, figures, look, show
from stack.status.exposition import Sample, samples
from stack.status.figures import Reading, Ttft
from stack.status.look import Looker, last_error, parse_gpus, together
from stack.status.snapshot import Answered, Gpu, LastError, Snapshot, verdict

HERE = Path(__file__).parent
# Recorded from vLLM 0.32.0 on a CPU with four clients, 1.08 s apart; only the families that are read and some others.
BEFORE, AFTER = ((HERE / f"load-{number}.txt").read_text() for number in (1, 2))
NOW = 1795713928.719
BOTH = {"supervisor": True, "guard": True}


def reading(text: str, moment: float) -> Reading:
    found = figures.read(text, moment)
    assert found is not None
    return found


def test_what_the_real_engine_says() -> None:
    found = reading(AFTER, NOW)
    assert found.sums == {"running": 4, "waiting": 0, "generated": 2998, "read": 2429, "preempted": 0}
    assert found.kv_tokens == 93184
    assert found.kv == pytest.approx(4 / 727)
    assert found.started == 1.79571188607e9
    assert found.buckets[math.inf] == 75
    assert figures.read("", NOW) is None
    assert figures.read("<html>", NOW) is None


def test_rates_between_two_looks() -> None:
    before, after = reading(BEFORE, NOW - 1.085), reading(AFTER, NOW)
    found = figures.rates(before, after)
    assert found is not None
    assert (round(found.generated, 1), round(found.read, 1), round(found.seconds, 3)) == (18.4, 96.8, 1.085)
    assert figures.rates(replace(before, started=1.0), after) is None, "the engine was started anew"
    assert figures.rates(after, replace(before, time=NOW + 1)) is None, "counters went back"
    assert figures.rates(before, before) is None


def test_time_to_first_token() -> None:
    before, after = reading(BEFORE, NOW - 1.085), reading(AFTER, NOW)
    recent = figures.ttft([before, after])
    assert (recent.p50, recent.p95, recent.window) == pytest.approx((3.75, 4.875, 1.085))
    assert recent.requests == 3
    whole = Ttft(figures.quantile(after.buckets, 0.5), figures.quantile(after.buckets, 0.95), 75, None)
    assert figures.ttft([after]) == whole
    assert figures.ttft([replace(before, time=NOW - 61), after]) == whole, "too long ago"
    assert figures.ttft([after, replace(after, time=NOW + 1)]) == whole, "no request since"
    assert figures.ttft([replace(before, started=1.0), after]) == whole
    assert figures.ttft([replace(after, buckets={})]) == Ttft(None, None, 0, None)


@pytest.mark.parametrize(
    ("buckets", "share", "value"),
    [
        ({1.0: 10, 2.0: 20, math.inf: 20}, 0.5, 1.0),
        ({1.0: 10, 2.0: 20, math.inf: 20}, 0.75, 1.5),
        ({1.0: 0, 2.0: 20, math.inf: 20}, 0.25, 1.25),
        ({1.0: 5, math.inf: 20}, 0.95, 1.0),
        ({1.0: 0, math.inf: 0}, 0.5, None),
        ({}, 0.5, None),
    ],
)
def test_quantiles(buckets: dict[float, float], share: float, value: float | None) -> None:
    assert figures.quantile(buckets, share) == value


def test_the_text_format() -> None:
    text = '# HELP a b\na{x="1",y="q\\"\\\\\\n,}"} 1.5\na 2 1700000000000\na{x="1" oops\na x\nab 3\na +Inf\n'
    assert list(samples(text, frozenset({"a"}))) == [
        Sample("a", {"x": "1", "y": 'q"\\\n,}'}, 1.5),
        Sample("a", {}, 2.0),
        Sample("a", {}, math.inf),
    ]


def test_several_engines_count_together() -> None:
    text = AFTER + AFTER.replace('engine="0"', 'engine="1"')
    assert reading(text, NOW).sums["running"] == 8
    assert reading(text, NOW).kv == reading(AFTER, NOW).kv
    assert reading(text, NOW).buckets[math.inf] == 150


def test_gpus() -> None:
    text = "0, NVIDIA H100 80GB HBM3, 62661, 81559, 87\n1, NVIDIA GB10, [N/A], [N/A], 3\nFailed\n"
    assert parse_gpus(text) == [
        Gpu(0, "NVIDIA H100 80GB HBM3", 62661 << 20, 81559 << 20, 87),
        Gpu(1, "NVIDIA GB10", None, None, 3),
    ]


def test_nobody_is_waited_for() -> None:
    began = time.monotonic()
    found = together({"hangs": lambda: time.sleep(60), "fails": lambda: 1 / 0, "works": lambda: 7}, 0.2)
    assert found == {"hangs": None, "fails": None, "works": 7}
    assert time.monotonic() - began < 5


def test_the_newest_error_of_all_logs_without_secrets(tmp_path: Path) -> None:
    logs: dict[str, Path | str] = {"engine": tmp_path / "engine.log", "gateway": tmp_path / "gateway.log"}
    (tmp_path / "engine.log").write_text("INFO 11-26 16:51:49 [a.py:1] fine\nERROR 11-26 16:51:50 [a.py:1] older\n")
    (tmp_path / "gateway.log").write_text(
        "16:51:40 - LiteLLM:ERROR: too old\n16:51:55 - LiteLLM:ERROR: key sk-abcdefgh12 and s3cr3tpassword\nafter it\n"
    )
    found = last_error(logs, ["s3cr3tpassword", "short"])
    assert found is not None
    assert found.part == "gateway"
    assert found.text == "16:51:55 - LiteLLM:ERROR: key (not shown) and (not shown)"
    (tmp_path / "gateway.log").write_text("")
    (tmp_path / "engine.log").write_text(f"ERROR 11-26 16:51:50 [a.py:1] {'x' * 1000}\n")
    found = last_error(logs, [])
    assert found is not None
    assert len(found.text) == 303
    assert last_error({"none": tmp_path / "none"}, []) is None


def test_what_looks_like_a_secret() -> None:
    line = "postgresql://llmproxy:pass@127.0.0.1:5432/litellm Bearer abc hf_abcdefghijkl sk-FAKE task-1234567890"
    assert hidden.line(line) == (
        "postgresql://(not shown)@127.0.0.1:5432/litellm Bearer (not shown) (not shown) sk-FAKE task-1234567890"
    )


DATABASE = Part("database", "ready", "takes connections", 7001, 7384.2)
ENGINE = Part("engine", "ready", "serves smollm2-135m, vllm_agent", 7002, 7383.0)
GATEWAY = Part("gateway", "ready", "answers", 7003, 7382.5)
QUIET = replace(reading(AFTER, NOW), sums={**reading(AFTER, NOW).sums, "running": 0}, kv=0.0)
ANSWERED = Answered(NOW - 7371, 0, {"200": 1204, "404": 2})
CHAT = Part("chat", "starting", "does not answer yet", 7004, 2.0)


def shot(*parts: Part, watchers: dict[str, bool] | None = None, **changes: Any) -> Snapshot:
    given = {part.name: part for part in parts}
    needed = [given.get(one.name, one) for one in (DATABASE, ENGINE, GATEWAY)]
    made = Snapshot(
        time=NOW,
        runtime="native",
        model="smollm2-135m",
        parts=[*needed, *(part for part in parts if part.name == "chat")],
        watchers=BOTH if watchers is None else watchers,
        release=3,
        revision="12fd25f77366fa6b3b4b768ec3050bf629380bac",
        url="http://127.0.0.1:4000",
        reading=QUIET,
        rates=figures.Rates(0.0, 0.0, 0.03),
        ttft=figures.ttft([QUIET]),
        answered=ANSWERED,
        gpus=[],
    )
    return replace(made, **changes)


GONE: dict[str, Any] = {"reading": None, "rates": None, "ttft": None}
BUSY = reading(AFTER, NOW)
H100 = [Gpu(0, "NVIDIA H100 80GB HBM3", 62661 << 20, 81559 << 20, 87), Gpu(1, "NVIDIA GB10", None, None, None)]
CORE = "(APIServer pid=7002) ERROR 11-26 17:25:20 [core_client.py:1] Engine core proc died unexpectedly"
# What is shown -> the word, and whom it serves is in the screen.
STATES: dict[str, tuple[str, Snapshot]] = {
    "ready": ("ready", shot()),
    "under-load": (
        "ready",
        shot(
            CHAT,
            reading=BUSY,
            rates=figures.rates(reading(BEFORE, NOW - 1.085), BUSY),
            ttft=figures.ttft([reading(BEFORE, NOW - 1.085), BUSY]),
            answered=Answered(NOW - 7371, 7, {"200": 1204, "429": 952}),
            gpus=H100,
        ),
    ),
    "loading": (
        "starting",
        shot(Part("engine", "starting", "loading the model's weights (12 s so far)", 7002, 20.0), **GONE),
    ),
    "first-start": (
        "starting",
        shot(
            Part("engine", "starting", "loading the model", 7002, 8.0),
            Part("gateway", "starting", "does not answer yet", 7003, 8.0),
            **GONE,
            answered=None,
        ),
    ),
    "draining": (
        "draining",
        shot(
            replace(ENGINE, state="draining", detail="is stopping: finishes what it has, takes nothing new (3 s so far)"),
            reading=BUSY,
        ),
    ),
    "engine-killed": (
        "down",
        shot(Part("engine", "restarting", "killed by SIGKILL", restarts=1), **GONE),
    ),
    "core-killed": (
        "down",
        shot(
            replace(ENGINE, state="failing", detail="its core has ended; it is about to be started again"),
            error=LastError("engine", NOW - 8, CORE),
        ),
    ),
    "engine-hangs": (
        "down",
        shot(replace(ENGINE, state="unresponsive", detail="was ready, and does not answer now"), **GONE),
    ),
    "engine-back": ("ready", shot(replace(ENGINE, seconds=61.0, restarts=1, last_end="killed by SIGKILL"))),
    "gateway-draining": (
        "draining",
        shot(
            replace(GATEWAY, state="draining", detail="is stopping: finishes what it has, takes nothing new"),
            reading=BUSY,
            answered=None,
        ),
    ),
    "database-down": (
        "degraded",
        shot(
            Part("database", "restarting", "exit status 1", restarts=4),
            replace(
                GATEWAY, state="degraded", detail="does not reach its database: serves the keys it knows, refuses others"
            ),
        ),
    ),
    "gateway-killed": (
        "down",
        shot(Part("gateway", "restarting", "killed by SIGKILL", restarts=1), answered=None),
    ),
    "supervisor-killed": ("degraded", shot(watchers={"supervisor": False, "guard": True})),
    "watchers-killed": ("degraded", shot(watchers={"supervisor": False, "guard": False})),
    "container-out-of-memory": (
        "down",
        shot(
            Part("engine", "restarting", "killed: out of memory", restarts=2),
            watchers={"docker": True},
            runtime="docker",
            **GONE,
        ),
    ),
    "container-stopped": (
        "down",
        shot(Part("engine", "stopped", "exited with 1"), watchers={"docker": True}, runtime="docker", **GONE),
    ),
    "not-known": (
        "unknown",
        shot(
            parts=[],
            why_unknown="does not say which containers there are: Cannot connect to the Docker daemon",
            watchers={"docker": False},
            runtime="docker",
            model="",
            release=0,
            revision="",
            url="",
            answered=None,
            **GONE,
        ),
    ),
    "not-running": (
        "stopped",
        shot(
            *(Part(name, "stopped", "not started") for name in ("database", "engine", "gateway")),
            watchers={"supervisor": False, "guard": False},
            model="",
            release=0,
            revision="",
            url="",
            answered=None,
            **GONE,
        ),
    ),
}


def rendered(shown: Snapshot, width: int = 110) -> str:
    console = Console(file=io.StringIO(), width=width, color_system=None, highlight=False)
    console.print(show.screen(shown))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    return "".join(f"{line.rstrip()}\n" for line in text.splitlines())


@pytest.mark.parametrize("name", STATES)
def test_the_screen(name: str) -> None:
    """After a wanted change: WRITE_SCREENS=1 pytest tests/unit/status, then look at what changed."""
    word, shown = STATES[name]
    path = HERE / "screens" / f"{name}.txt"
    text = rendered(shown)
    if os.environ.get("WRITE_SCREENS"):
        path.write_text(text)
    assert text == path.read_text()
    assert shown.state == word
    assert f"  {word}  " in text.splitlines()[0]
    data = json.loads(json.dumps(shown.data()))
    assert data["state"] == word
    assert [part["state"] for part in data["parts"]] == [part.state for part in shown.parts]


def test_no_screen_without_a_state() -> None:
    assert {path.stem for path in (HERE / "screens").iterdir()} == set(STATES)


def test_only_one_state_is_ready() -> None:
    """Whatever is wrong with one of the needed parts, the whole is not called ready; the chat page does not count."""
    states = ("starting", "draining", "failing", "unresponsive", "degraded", "restarting", "stopped")
    for name in ("database", "engine", "gateway"):
        for state in states:
            changed = [Part(name, state, "") if part.name == name else part for part in (DATABASE, ENGINE, GATEWAY)]
            assert verdict(changed, BOTH)[0] != "ready", (name, state)
    assert verdict([DATABASE, ENGINE, GATEWAY, CHAT], BOTH)[0] == "ready"


class Runtime:
    """A stack of which only the engine's metrics answer, from what is set here."""

    name = "native"

    def __init__(self, parts: Sequence[Part] = (DATABASE, ENGINE, GATEWAY)) -> None:
        self._parts = list(parts)

    def addresses(self) -> dict[str, tuple[str, int]]:
        return {"engine": ("127.0.0.1", 8000), "gateway": ("127.0.0.1", 4000)}

    def parts(self) -> list[Part]:
        if not self._parts:
            raise RunError(Problem("docker", "does not say which containers there are"))
        return self._parts

    def watchers(self) -> dict[str, bool]:
        return BOTH

    def running_model(self) -> str:
        return "smollm2-135m"

    def log_places(self) -> dict[str, Path | str]:
        return {}


@pytest.fixture
def layout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Layout:
    """A stack whose engine's metrics grow, whose gateway counts, and which is asked without a pause."""
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "LITELLM_MASTER_KEY").write_text("sk-master-key\n")
    texts = [BEFORE, AFTER]

    def get(url: str, key: str = "", seconds: float = 3.0) -> tuple[int, Any]:
        if url == "http://127.0.0.1:8000/metrics":
            return 200, texts.pop(0) if len(texts) > 1 else texts[0]
        assert (url, key) == ("http://127.0.0.1:4000/stack/requests", "sk-master-key")
        return 200, {"since": NOW, "under_way": 4, "answered": {"200": 3, "429": 1}}

    monkeypatch.setattr("stack.runtime.probe.get", get)
    monkeypatch.setattr(look, "INTERVAL", 0.05)
    monkeypatch.setattr(look, "gpus", list)
    return Layout(tmp_path, tmp_path / "state", tmp_path / "secrets", tmp_path / "envs")


def test_a_look(layout: Layout) -> None:
    looker = Looker(layout, Runtime())
    data = looker.look().data()
    assert data["requests"] == {"running": 4, "waiting": 0, "preempted": 0}
    assert data["tokens_per_second"]["generated"] > 0
    assert data["gateway"] == {"since": NOW, "under_way": 4, "answered": {"200": 3, "429": 1}, "too_many": 1}
    assert data["ttft_seconds"]["requests"] == 3
    again = looker.look().data()
    assert again["tokens_per_second"]["generated"] == 0


def test_an_engine_that_hangs_is_not_asked_again(layout: Layout) -> None:
    hangs = replace(ENGINE, state="unresponsive")
    data = Looker(layout, Runtime((DATABASE, hangs, GATEWAY))).look().data()
    assert data["requests"] is data["tokens_per_second"] is data["kv_cache"] is None
    assert data["state"] == "down"


def test_parts_that_cannot_be_found_out_are_not_stopped(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    data = Looker(layout, Runtime(())).look().data()
    assert (data["state"], data["parts"]) == ("unknown", [])
    assert "does not say which containers there are" in data["says"]
    monkeypatch.setattr(look, "DEADLINE", 0.2)
    monkeypatch.setattr(Runtime, "parts", lambda _: time.sleep(60))
    data = Looker(layout, Runtime()).look().data()
    assert (data["state"], data["says"]) == ("unknown", "how it is cannot be found out: no answer within 0.2 s")


def test_that_no_docker_engine_answers_is_a_state(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "docker").write_text("#!/bin/sh\necho 'Cannot connect to the Docker daemon' >&2; exit 1\n")
    (tmp_path / "docker").chmod(0o755)
    for name, value in {"PATH": f"{tmp_path}:{os.environ['PATH']}", "RUNTIME": "docker", "STATE_DIR": str(tmp_path)}.items():
        monkeypatch.setenv(name, value)
    assert cli.main(["status", "--json"]) == 1
    shown = json.loads(capsys.readouterr().out)
    assert (shown["state"], shown["runtime"], shown["watchers"]) == ("unknown", "docker", {"docker": False})
    assert "Cannot connect to the Docker daemon" in shown["says"]
    assert cli.main(["status"]) == 1
    assert "unknown  how it is cannot be found out" in capsys.readouterr().out


def test_exit_status_and_watch(layout: Layout, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    once = SimpleNamespace(watch=None, json=True)
    assert command.run(Runtime(), layout, once) == 0
    assert json.loads(capsys.readouterr().out)["state"] == "ready"
    assert command.run(Runtime((DATABASE, replace(ENGINE, state="draining"), GATEWAY)), layout, once) == 1
    capsys.readouterr()
    naps: list[float] = []

    def sleep(seconds: float) -> None:
        naps.append(seconds)
        if seconds > 1 and len([one for one in naps if one > 1]) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(time, "sleep", sleep)
    assert command.run(Runtime(), layout, SimpleNamespace(watch=9.0, json=True)) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [json.loads(line)["state"] for line in lines] == ["ready"] * 3
    naps.clear()
    assert command.run(Runtime(), layout, SimpleNamespace(watch=9.0, json=False)) == 0
    out = capsys.readouterr().out
    assert out.count("smollm2-135m  ready  requests are answered") == 3
    assert "\x1b" not in out

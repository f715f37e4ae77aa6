"""The pure parts of `bench --startup`."""

from __future__ import annotations

import itertools
from pathlib import Path

from stack import local_key
from stack.bench import breakdown, caches, memory, startup
from stack.bench.breakdown import Span, Start, bar, middle, ratio, spans, spread


def one(answered: float) -> Start:
    moments = {"checked": 0.4, "engine started": 0.5, "engine listens": 27.0, "stack": answered, "gateway": 13.0}
    phases = [(0.6, "starting Python and vLLM"), (9.0, "loading the model"), (20.0, "warming up"), (27.1, "ready")]
    return Start(moments, phases)


def test_spans_follow_on_each_other_and_cover_the_start() -> None:
    path = [span for span in spans(one(27.5)) if not span.name.startswith("beside")]
    assert [span.name for span in path] == [
        "configuration checked",
        "engine's process started",
        "engine: starting Python and vLLM",
        "engine: loading the model",
        "engine: warming up",
        "port open, to the first answer",
    ]
    assert path[0].begin == 0.0
    assert path[-1].end == 27.5
    assert all(before.end == after.begin for before, after in itertools.pairwise(path))


def test_what_goes_on_beside_it_begins_when_the_configuration_is_checked() -> None:
    assert spans(one(27.5))[-1] == Span("beside it: gateway answers", 0.4, 13.0)


def test_an_engine_that_tells_no_phases_is_loading() -> None:
    names = [span.name for span in spans(Start({"checked": 1.0, "engine listens": 9.0, "stack": 9.5}))]
    assert names == ["configuration checked", "engine: loading", "port open, to the first answer"]


def test_bars() -> None:
    assert bar(Span("a", 0, 5), 10, 10) == "█████"
    assert bar(Span("a", 5, 10), 10, 10) == "     █████"
    assert bar(Span("a", 10, 10), 10, 10) == " " * 9 + "█"
    assert bar(Span("a", 3, 3.01), 10, 10) == "   █"
    assert bar(Span("a", 0, 20), 10, 10) == "█" * 10
    assert bar(Span("a", 0, 0), 0) == ""


def test_medians() -> None:
    assert middle([one(30), one(28), one(40)]).moments["stack"] == 30
    assert middle([one(30), one(28)]).moments["stack"] == 28
    assert ratio([30, 31, 60], [20, 30, 29]) == 31 / 29
    assert (spread([3.0]), spread([1.0, 2.0, 9.0])) == ("3.0", "2.0 (1.0 to 9.0)")


def test_json_has_seconds_and_bytes() -> None:
    start = one(27.5)
    start.memory = {"gateway": 5}
    data = start.data()
    assert data["spans"][0] == {"name": "configuration checked", "begin": 0.0, "end": 0.4, "seconds": 0.4}
    assert (data["moments"]["stack"], data["memory"]) == (27.5, {"gateway": 5})


def test_pss() -> None:
    text = "5581-7ffe ---p 00000000 00:00 0 [rollup]\nRss:            9000 kB\nPss:            1234 kB\nPss_Anon:  7 kB\n"
    assert memory.pss(text) == 1234 * 1024
    assert memory.pss("") == 0


def test_the_engine_is_not_around_itself() -> None:
    found = memory.summed({"engine": 100, "gateway": 3, "database client": 2, "supervisor": 1})
    assert found["around the engine"] == 6


def test_cold_caches_are_apart_and_nothing_else_changes(tmp_path: Path) -> None:
    environ = {"HOME": "/home/a", "HF_HOME": "/home/a/hf"}
    made = caches.apart(environ, tmp_path)
    assert environ.items() <= made.items()
    assert all(value.startswith(str(tmp_path)) for name, value in made.items() if name not in environ)
    assert not any(name.startswith("VLLM_") for name in made)


def test_says_when_the_page_cache_cannot_be_dropped(tmp_path: Path) -> None:
    assert "was not dropped" in caches.drop_page_cache(tmp_path / "no" / "such")
    assert caches.drop_page_cache(tmp_path / "switch") == ""
    assert (tmp_path / "switch").read_text() == "3\n"


def test_phases_of_an_earlier_start_do_not_count(tmp_path: Path) -> None:
    start = Start()
    (tmp_path / "phase").write_text("100.0 warming up\n")
    startup._note_phase(start, tmp_path, 200.7, 0.1)
    assert start.phases == []
    (tmp_path / "phase").write_text("200 starting Python and vLLM\n")
    startup._note_phase(start, tmp_path, 200.7, 0.2)
    startup._note_phase(start, tmp_path, 200.7, 0.3)
    assert start.phases == [(0.2, "starting Python and vLLM")]


def test_low_priority_is_taken_back(tmp_path: Path) -> None:
    file = tmp_path / "autogroup"
    local_key.take_full_share(file)
    assert not file.exists()
    file.write_text("/autogroup-7 nice 19\n")
    local_key.take_full_share(file)
    assert file.read_text() == "0\n"


def test_bar_width_is_the_tables() -> None:
    assert len(bar(Span("a", 0, 1), 1)) == breakdown.WIDTH

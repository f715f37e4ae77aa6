"""What starts took, in a file that may be anything."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from stack.progress import timings
from stack.progress.timings import Expected, Key, Past

KEY = Key("m", "92f8", "engine-cpu-py3.11-ef35", "native")
PAST = Past(
    KEY, 31.2, {"engine": (("starting Python and vLLM", 9.5), ("warming up", 21.0)), "gateway": (("starting", 12.0),)}
)


def test_what_was_remembered_comes_back(tmp_path: Path) -> None:
    file = tmp_path / "state" / "timings.json"
    timings.add(file, PAST)
    (found,) = timings.read(file)
    assert replace(found, when="") == PAST
    assert found.when.endswith("Z")
    assert timings.expected([found], KEY) == Expected(found, same=True)
    assert [path.name for path in file.parent.iterdir()] == ["timings.json"]


def test_the_newest_one_counts_and_old_ones_go(tmp_path: Path) -> None:
    file = tmp_path / "timings.json"
    for number in range(timings.KEEP + 5):
        timings.add(file, replace(PAST, key=replace(KEY, model=str(number))))
    timings.add(file, replace(PAST, key=replace(KEY, model="7"), seconds=5.0))
    found = timings.read(file)
    assert len(found) == timings.KEEP
    assert [past.seconds for past in found if past.key.model == "7"] == [5.0]
    assert "0" not in {past.key.model for past in found}


@pytest.mark.parametrize("change", ["command", "engine"])
def test_another_command_or_engine_only_says_roughly(change: str) -> None:
    assert timings.expected([PAST], replace(KEY, **{change: "other"})) == Expected(PAST, same=False)


@pytest.mark.parametrize("change", ["model", "runtime"])
def test_another_model_or_runtime_says_nothing(change: str) -> None:
    assert timings.expected([PAST], replace(KEY, **{change: "other"})) == Expected()


ENTRY = {
    "key": {"model": "m", "command": "c", "engine": "e", "runtime": "native"},
    "seconds": 3.5,
    "parts": {"engine": [["a", 1.5]]},
    "when": "",
}


def test_the_entry_that_the_next_test_breaks_is_right(tmp_path: Path) -> None:
    (tmp_path / "t").write_text(json.dumps({"starts": [ENTRY]}))
    assert timings.read(tmp_path / "t")[0].parts == {"engine": (("a", 1.5),)}


BROKEN: list[dict[str, object]] = [
    {"key": {}},
    {"key": None},
    {"seconds": "3"},
    {"seconds": -1},
    {"seconds": float("nan")},
    {"seconds": 1e99},
    {"seconds": True},
    {"parts": []},
    {"parts": {"engine": [["a"]]}},
    {"parts": {"engine": [["a", None]]}},
    {"parts": {"engine": 3}},
]
TEXTS = ["", "{", "[]", "null", "\x00\xff", '{"starts": 1}', '{"starts": [null]}', "[" * 100_000]
TEXTS += [json.dumps({"starts": [{**ENTRY, **broken}]}) for broken in BROKEN]


@pytest.mark.parametrize("text", TEXTS)
def test_a_broken_file_is_as_good_as_none_and_is_replaced(tmp_path: Path, text: str) -> None:
    file = tmp_path / "timings.json"
    file.write_text(text, "utf-8")
    assert timings.read(file) == []
    timings.add(file, PAST)
    assert [past.key for past in timings.read(file)] == [KEY]


def test_what_cannot_be_written_is_not_remembered(tmp_path: Path) -> None:
    (tmp_path / "timings.json").mkdir()
    timings.add(tmp_path / "timings.json", PAST)
    assert timings.read(tmp_path / "timings.json") == []

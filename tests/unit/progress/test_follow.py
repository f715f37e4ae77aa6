"""Each line of a log is read once, and has the time at which it was written."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from stack.progress import follow
from stack.progress.follow import FileLog, backlog, stamp, stamped

NOW = time.mktime((2026, 11, 24, 10, 5, 0, 0, 0, -1))


def append(file: Path, text: str) -> None:
    with file.open("a") as output:
        output.write(text)


def texts(log: FileLog) -> list[str]:
    return [text for _, text in log.read()]


def test_a_file_is_read_on_from_where_it_was(tmp_path: Path) -> None:
    file = tmp_path / "engine.log"
    assert texts(FileLog(file, 0)) == []
    file.write_text("old\n")
    log = FileLog(file, follow.length(file))
    append(file, "one\ntw")
    assert texts(log) == ["one"]
    assert texts(log) == []
    append(file, "o\rthree\n\n")
    assert texts(log) == ["two", "three"]
    (when, _), *_ = [*log.read(), (time.time(), "")]
    assert abs(when - time.time()) < 5


def test_only_what_is_new_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "engine.log"
    file.write_text("x" * 100_000 + "\n")
    log = FileLog(file, 0)
    sizes = []
    split = follow._BREAK.split

    class Break:
        @staticmethod
        def split(text: str) -> list[str]:
            sizes.append(len(text))
            return [str(one) for one in split(text)]

    monkeypatch.setattr(follow, "_BREAK", Break)
    log.read()
    append(file, "new\n")
    log.read()
    log.read()
    assert sizes == [100_001, 4, 0]


def test_a_file_that_is_cut_goes_on_at_its_end(tmp_path: Path) -> None:
    file = tmp_path / "engine.log"
    file.write_text("a long line of before\n")
    log = FileLog(file, 0)
    log.read()
    file.write_text("cut\n")
    assert texts(log) == []
    append(file, "new\n")
    assert texts(log) == ["new"]


def test_who_joins_a_start_sees_it_from_its_beginning(tmp_path: Path) -> None:
    file = tmp_path / "engine.log"
    file.write_text(
        "starting: vllm serve a\nINFO 11-24 10:00:00 [x.py:1] of before\n"
        "starting: vllm serve b\nno stamp\n(EngineCore pid=1) INFO 11-24 10:04:00 [x.py:1] first\nraw\n"
    )
    assert texts(FileLog(file, None)) == [
        "starting: vllm serve b",
        "no stamp",
        "(EngineCore pid=1) INFO 11-24 10:04:00 [x.py:1] first",
        "raw",
    ]


def test_lines_without_a_stamp_have_that_of_the_one_before() -> None:
    lines = ["starting: a", "INFO 11-24 10:04:00 [x.py:1] one", "raw", "INFO 11-24 10:04:09 [x.py:1] two", "raw"]
    assert [when - NOW for when, _ in backlog(lines, NOW)] == [-60, -60, -60, -51, -51]


@pytest.mark.parametrize(
    ("line", "seconds"),
    [
        ("(Worker pid=1) INFO 11-24 10:04:59 [a.py:1] x", -1),
        ("WARNING 11-24 10:05:00 [a.py:1] x", 0),
        ("INFO 13-45 10:05:00", None),
        ("INFO:     Application startup complete.", None),
    ],
)
def test_stamp(line: str, seconds: int | None) -> None:
    found = stamp(line, NOW)
    assert (None if found is None else found - NOW) == seconds


def test_a_stamp_of_the_future_is_last_years() -> None:
    found = stamp("INFO 12-31 23:59:59 [a.py:1] x", time.mktime((2027, 1, 1, 0, 0, 5, 0, 0, -1)))
    assert found == time.mktime((2026, 12, 31, 23, 59, 59, 0, 0, -1))


def test_a_containers_lines_have_dockers_times() -> None:
    assert stamped("2026-11-24T11:50:28.250000000Z one\rtwo\n") == [(1795521028.25, "one"), (1795521028.25, "two")]
    assert stamped("2026-11-24T11:50:28Z \n") == []
    ((when, text),) = stamped("no time at all\n")
    assert text == "no time at all"
    assert abs(when - time.time()) < 5

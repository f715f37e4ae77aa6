"""The times of lines, which are wanted, and how several parts' are merged."""

from __future__ import annotations

import argparse
import os
import threading
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from stack.errors import ConfigError
from stack.logs import command, docker, files, wanted
from stack.logs.lines import Line, clean, is_error, split_docker, stamped

# As the real programs printed them.
VLLM = "(APIServer pid=13261) INFO 11-26 16:51:49 [launcher.py:195] Route: /v1/models, Methods: GET"
VLLM_CORE = "(EngineCore pid=13999) ERROR 11-26 16:51:50 [core.py:1] EngineCore failed"
VLLM_ACCESS = '11-26 16:57:24 INFO:     127.0.0.1:46020 - "POST /v1/responses HTTP/1.1" 200 OK'
POSTGRES = "2026-11-26 16:51:26.956 UTC [13258] LOG:  starting PostgreSQL 16.14"
GATEWAY = '2026-11-26 16:57:27.319 INFO: 127.0.0.1:41170 - "POST /v1/embeddings HTTP/1.1" 400 request 311437ee'
LITELLM = "16:55:40 - LiteLLM Proxy:WARNING: login_throttle.py:126 - trusted_proxy_ranges is not set"
NEWEST = 1795712400.0  # 2026-11-26 18:00 in Berlin


def times(*texts: str, newest: float = NEWEST) -> list[str]:
    return [datetime.fromtimestamp(line.time).isoformat(" ") for line in stamped("x", texts, newest)]


@pytest.fixture(autouse=True)
def zone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An hour from UTC, in which PostgreSQL logs whatever the machine's zone is."""
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        (VLLM, "2026-11-26 16:51:49"),
        (VLLM_CORE, "2026-11-26 16:51:50"),
        (VLLM_ACCESS, "2026-11-26 16:57:24"),
        (POSTGRES, "2026-11-26 17:51:26.956000"),
        (GATEWAY, "2026-11-26 16:57:27.319000"),
        (LITELLM, "2026-11-26 16:55:40"),
        ("2026-11-26 16:58:27 gateway ended (killed by SIGKILL); starting it again", "2026-11-26 16:58:27"),
        ("\x1b[36m(APIServer pid=1)\x1b[0m INFO 11-26 16:51:49 [x.py:1] x", "2026-11-26 16:51:49"),
    ],
)
def test_the_time_of_each_programs_lines(text: str, moment: str) -> None:
    assert times(text) == [moment]


def test_a_line_without_a_time_belongs_to_the_one_before() -> None:
    found = times("waiting for the database", LITELLM, "Traceback (most recent call last):", "ValueError: x", GATEWAY)
    assert found == ["2026-11-26 16:55:40"] * 4 + ["2026-11-26 16:57:27.319000"]
    assert times("no time", "at all") == ["2026-11-26 18:00:00"] * 2


def test_a_clock_without_a_day_goes_past_midnight() -> None:
    assert times("23:59:58 - a", "00:00:01 - b", newest=datetime(2026, 11, 26, 0, 0, 5).timestamp()) == [
        "2026-11-25 23:59:58",
        "2026-11-26 00:00:01",
    ]


def test_before_new_year() -> None:
    newest = datetime(2027, 1, 1, 0, 0, 5).timestamp()
    assert times("INFO 12-31 23:59:59 [a.py:1] x", "INFO 01-01 00:00:01 [a.py:1] x", newest=newest) == [
        "2026-12-31 23:59:59",
        "2027-01-01 00:00:01",
    ]


def test_times_that_cannot_be_are_none() -> None:
    assert (
        times(GATEWAY, "2099-01-01 00:00:00 wrote a model", "99-99 99:99:99 too", "2026-02-31 00:00:00 and this")
        == ["2026-11-26 16:57:27.319000"] * 4
    )


def test_nothing_reaches_the_terminal_but_text() -> None:
    assert clean("\x1b[31mred\x1b[0m\x1b]0;title\x07 \ttab\x9b") == "red0;title \ttab"
    assert clean("naïve ▄▄") == "naïve ▄▄"


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (VLLM, False),
        (VLLM_CORE, True),
        (LITELLM, False),
        (GATEWAY, False),
        ("16:57:27 - LiteLLM Proxy:ERROR: x.py:1 - Exception occured", True),
        ("2026-11-26 16:51:26.956 UTC [1] FATAL:  the database system is shutting down", True),
        ('2026-11-28 13:42:50.918 UTC [7] ERROR:  relation "Last30dTopEndUsersSpend" does not exist at character 15', False),
        ('2026-11-28 13:42:50.918 UTC [7] ERROR:  relation "LiteLLM_SpendLogs" does not exist at character 15', True),
        ("ValueError: no", True),
        ("error: models/x.yml:8: no", True),
        ("an ERROR in the text of a client", False),
    ],
)
def test_errors(text: str, error: bool) -> None:
    assert is_error(text) == error


def test_what_is_wanted() -> None:
    now = datetime(2026, 11, 26, 17).timestamp()
    for text, seconds in (("90s", 90), ("10m", 600), ("1.5h", 5400), ("2d", 172800), ("2026-11-26T16:59", 60)):
        assert wanted.make(text, "", "", now).since == now - seconds
    for given in ("chatcmpl-85ee4da3", "cmpl-85ee4da3", "resp_85ee4da3", " 85ee4da3"):
        assert wanted.make("", "", given, now).takes(Line(1, "x", "Received request resp_85ee4da3_0: params"))
    assert not wanted.make("10m", "POST .* 4\\d\\d", "", now).takes(Line(now - 700, "x", '"POST /v1" 429'))
    assert wanted.make("10m", "POST .* 4\\d\\d", "", now).takes(Line(now - 500, "x", '"POST /v1" 429'))
    with pytest.raises(ConfigError) as raised:
        wanted.make("yesterday", "(", "", now)
    assert len(raised.value.problems) == 2


def places(folder: Path) -> dict[str, Any]:
    (folder / "engine.log").write_text(f"starting: vllm\n{VLLM}\n{VLLM_ACCESS}\n")
    (folder / "gateway.log").write_text(f"{LITELLM}\nof the warning\n{GATEWAY}\n")
    for path in folder.iterdir():
        os.utime(path, (NEWEST, NEWEST))
    return {path.stem: path for path in sorted(folder.iterdir())}


def shown(capsys: pytest.CaptureFixture[str], folder: Path, *arguments: str) -> tuple[int, list[str], str]:
    parser = argparse.ArgumentParser()
    command.add_options(parser)
    status = command.run(SimpleNamespace(log_places=lambda: places(folder)), parser.parse_args(arguments))
    out, err = capsys.readouterr()
    return status, out.splitlines(), err


def test_merged_by_time(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert shown(capsys, tmp_path) == (
        0,
        [
            "engine  | starting: vllm",
            f"engine  | {VLLM}",
            f"gateway | {LITELLM}",
            "gateway | of the warning",
            f"engine  | {VLLM_ACCESS}",
            f"gateway | {GATEWAY}",
        ],
        "",
    )
    assert shown(capsys, tmp_path, "-n1")[1] == [f"engine  | {VLLM_ACCESS}", f"gateway | {GATEWAY}"]
    assert shown(capsys, tmp_path, "-n0") == (0, [], "")
    assert shown(capsys, tmp_path, "gateway", "-n1", "-t")[1] == [f"2026-11-26T16:57:27 {GATEWAY}"]
    assert shown(capsys, tmp_path, "--grep", "POST", "--since", "2026-11-26T16:57:25")[1] == [f"gateway | {GATEWAY}"]
    assert shown(capsys, tmp_path, "--request", "311437ee")[:2] == (0, [f"gateway | {GATEWAY}"])
    status, out, err = shown(capsys, tmp_path, "--request", "abcdef")
    assert (status, out) == (1, [])
    assert "ENGINE_LOG_REQUESTS" in err


def test_a_part_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ConfigError, match="did you mean gateway"):
        shown(capsys, tmp_path, "gatewy")


def test_only_the_end_of_a_long_log_is_read(tmp_path: Path) -> None:
    path = tmp_path / "gateway.log"
    path.write_text(
        "".join(f"2026-11-26 16:{i // 600:02}:{i // 10 % 60:02}.{i % 10}00 INFO: line {i}\n" for i in range(30000))
    )
    looked = wanted.make("", "", "", 0)
    lines, end = files.tail("gateway", path, lambda found: command._enough(looked, 40, found))
    assert end == path.stat().st_size
    assert 40 < len(lines) < 6000
    assert lines[-1].text.endswith("line 29999")
    since = wanted.make("2026-11-26T16:40:00", "", "", 0)
    lines, _ = files.tail("gateway", path, lambda found: command._enough(since, None, found))
    assert sum(map(since.takes, lines)) == 6000
    assert files.tail("gateway", tmp_path / "none.log", lambda found: False) == ([], 0)


def test_following_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "PAUSE", 0.01)
    one, other = tmp_path / "one.log", tmp_path / "other.log"
    one.write_text("shown before\n")
    batches = files.follow({"one": one, "other": other}, {"one": one.stat().st_size})
    with one.open("a") as file:
        file.write("new\nhalf a li")
    assert [(line.part, line.text) for line in next(batches)] == [("one", "new")]
    with one.open("a") as file:
        file.write("ne\n")
    other.write_text("made later\n")
    found = [(line.part, line.text) for line in next(batches)]
    if len(found) == 1:
        found += [(line.part, line.text) for line in next(batches)]
    assert sorted(found) == [("one", "half a line"), ("other", "made later")]
    one.write_text("")  # cut
    other.write_text("made later\nand more\n")
    assert [line.text for line in next(batches)] == ["and more"]


def test_the_containers_logs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in for docker that says what it was asked."""
    program = tmp_path / "docker"
    program.write_text(
        f'#!/bin/sh\necho "$@" >>{tmp_path}/asked\n'
        'case "$*" in *gone*) echo "Error: No such container: gone" >&2; exit 1 ;; esac\n'
        "echo '2026-11-26T15:51:26.500000001Z printed' >&2\necho '2026-11-26T15:51:27.000000000Z \x1b[31msaid'\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    lines = docker.read("engine", "vllm-container", 17.5, 3)
    assert [(round(line.time % 60, 1), line.text) for line in lines] == [(26.5, "printed"), (27.0, "said")]
    assert (tmp_path / "asked").read_text() == "logs --timestamps --since 17.500 --tail 3 vllm-container\n"
    assert docker.read("engine", "gone", 0, None) == []
    batch = next(docker.follow({"engine": "vllm-container"}, {"engine": lines[0].time}, pause=99))
    assert [line.text for line in batch] == ["said"], "what was shown is not shown again"
    assert threading.active_count() > 1
    assert split_docker("no time", 3.0) == (3.0, "no time")

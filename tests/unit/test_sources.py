"""Layers as people write them: vars.env, the environment, --set, fragments."""

from __future__ import annotations

from pathlib import Path

import pytest

from stack.errors import ConfigError
from stack.sources import Entry, model_names, parse_vars, read, read_fragment


@pytest.mark.parametrize(
    ("text", "entries"),
    [
        pytest.param("A=1\nB=2\n", {"A": "1", "B": "2"}, id="plain"),
        pytest.param("A=1\r\nB=2\r\n", {"A": "1", "B": "2"}, id="crlf"),
        pytest.param("A = 1 \nexport B=2\n", {"A": "1", "B": "2"}, id="blanks-and-export"),
        pytest.param("A=\"a b\"\nB='c # d'\n", {"A": "a b", "B": "c # d"}, id="quotes"),
        pytest.param("A=a b # comment\nB=a#b\n", {"A": "a b", "B": "a#b"}, id="comments"),
        pytest.param("A=\nB=' '\nC=1", {"C": "1"}, id="empty-is-unset"),
        pytest.param(
            "A=$HOME\nB=$(touch canary)\nC=`x`\n", {"A": "$HOME", "B": "$(touch canary)", "C": "`x`"}, id="literal"
        ),
        pytest.param("A=b=c\n", {"A": "b=c"}, id="equals-in-value"),
        pytest.param("", {}, id="empty-file"),
    ],
)
def test_vars(text: str, entries: dict[str, str]) -> None:
    assert {key: entry.value for key, entry in parse_vars(text, "f").items()} == entries


def test_vars_know_their_lines() -> None:
    assert parse_vars("# head\n\nA=1\n\n# more\nB=2\n", "vars.env") == {
        "A": Entry("1", "vars.env:3"),
        "B": Entry("2", "vars.env:6"),
    }


@pytest.mark.parametrize(
    ("text", "problems"),
    [
        pytest.param(
            "A=1\nMODEL minilm\n",
            ["error: f:2: 'MODEL minilm' is not KEY=value\n  one setting a line; quote values with spaces"],
            id="no-equals",
        ),
        pytest.param(
            "A=1\nB\n", ["error: f:2: 'B' is not KEY=value\n  one setting a line; quote values with spaces"], id="bare"
        ),
        pytest.param(
            "A='x\nB=1\n",
            ['error: f:1: "A=\'x" is not KEY=value\n  one setting a line; quote values with spaces'],
            id="open-quote",
        ),
        pytest.param("A=1\n\nA=2\n", ["error: f:3: A: stands twice, first in line 1\n  keep one of them"], id="twice"),
        pytest.param("A=1\nA=\n", ["error: f:2: A: stands twice, first in line 1\n  keep one of them"], id="twice-empty"),
    ],
)
def test_bad_vars(text: str, problems: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_vars(text, "f")
    assert [str(problem) for problem in caught.value.problems] == problems


def test_read_orders_layers(tmp_path: Path) -> None:
    (tmp_path / "vars.env").write_text("A=shared\n")
    (tmp_path / "vars.local.env").write_text("A=local\n")
    layers = read(tmp_path, {"A": "env", "EMPTY": " "}, ["A=set", "B= x=y "])
    assert layers.overrides == {"A": Entry("set", "--set"), "B": Entry("x=y", "--set")}
    assert layers.environment == {"A": Entry("env", "environment")}
    assert layers.files == ({"A": Entry("local", "vars.local.env:1")}, {"A": Entry("shared", "vars.env:1")})


def test_read_finds_all_problems(tmp_path: Path) -> None:
    (tmp_path / "vars.local.env").write_text("what is this\n")
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, {}, ["LITELLM_TOP_K", "=5"])
    assert [(problem.place, problem.what) for problem in caught.value.problems] == [
        ("--set", "'LITELLM_TOP_K' is not KEY=VALUE"),
        ("--set", "'=5' is not KEY=VALUE"),
        ("vars.local.env:1", "'what is this' is not KEY=value"),
        ("vars.env", f"no such file in {tmp_path}"),
    ]


def test_model_names_leaves_out_what_is_no_model(tmp_path: Path) -> None:
    folder = tmp_path / "models"
    folder.mkdir()
    for name in ("b.yml", "a-1.5.yml", ".hidden.yml", "-dash.yml", "c.yaml", "d.yml~", "e f.yml"):
        (folder / name).touch()
    assert model_names(tmp_path) == ["a-1.5", "b"]


NOT_A_NAME = "is not a model name\n  letters, digits, dots, dashes; models: ./runMe.sh models"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("../secrets/x", f"error: MODEL: '../secrets/x' {NOT_A_NAME}"),
        ("/etc/passwd", f"error: MODEL: '/etc/passwd' {NOT_A_NAME}"),
        ("a\nb", f"error: MODEL: 'a\\nb' {NOT_A_NAME}"),
        ("minilm\n", f"error: MODEL: 'minilm\\n' {NOT_A_NAME}"),
        ("", f"error: MODEL: '' {NOT_A_NAME}"),
        ("x" * 65, f"error: MODEL: '{'x' * 65}' {NOT_A_NAME}"),
        (
            "minlm",
            "error: MODEL: no model 'minlm': models/minlm.yml does not exist\n  did you mean minilm? models there are: minilm, q",
        ),
        ("zzz", "error: MODEL: no model 'zzz': models/zzz.yml does not exist\n  models there are: minilm, q"),
    ],
    ids=["up", "absolute", "newline", "last-newline", "empty", "long", "near", "unknown"],
)
def test_unknown_fragment(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "models").mkdir()
    for known in ("minilm", "q"):
        (tmp_path / "models" / f"{known}.yml").touch()
    with pytest.raises(ConfigError) as caught:
        read_fragment(tmp_path, name)
    assert str(caught.value) == message


def test_read_fragment_names_it_as_the_user_knows_it(tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "m.yml").write_text("command: vllm serve x\n")
    document = read_fragment(tmp_path, "m")
    assert (document.name, document.data) == ("models/m.yml", {"command": "vllm serve x"})

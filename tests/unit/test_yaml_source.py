"""YAML with places, and what a fragment's YAML may not have."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from stack.errors import ConfigError
from stack.yaml_source import MAX_BYTES, Document, load, read_text

TEXT = """\
# a comment
command: |
  vllm serve m
env:
  A: "1"
litellm:
  extra_body: {x: [1, {y: 2}]}
other: plain
"""


def test_document_knows_where_everything_stands(document: Callable[..., Document]) -> None:
    made = document(TEXT)
    assert made.data == {
        "command": "vllm serve m\n",
        "env": {"A": "1"},
        "litellm": {"extra_body": {"x": [1, {"y": 2}]}},
        "other": "plain",
    }
    assert made.lines == {
        ("command",): 2,
        ("env",): 4,
        ("env", "A"): 5,
        ("litellm",): 6,
        ("litellm", "extra_body"): 7,
        ("litellm", "extra_body", "x"): 7,
        ("litellm", "extra_body", "x", "1", "y"): 7,
        ("other",): 8,
    }
    assert made.text_lines[("command",)] == 3
    assert made.text_lines[("other",)] == 8


@pytest.mark.parametrize(
    ("path", "place"),
    [
        (("env", "A"), "models/m.yml:5"),
        (("env", "B"), "models/m.yml:4"),
        (("nothing",), "models/m.yml"),
        ((), "models/m.yml"),
    ],
)
def test_place_is_the_nearest_key(document: Callable[..., Document], path: tuple[str, ...], place: str) -> None:
    assert document(TEXT).place(path) == place


@pytest.mark.parametrize(
    ("text", "problems"),
    [
        pytest.param("", ["error: f: is empty"], id="empty"),
        pytest.param("# only a comment\n", ["error: f: is empty"], id="comment"),
        pytest.param("\n- a\n", ["error: f:2: expected a mapping of keys to values at the top"], id="list"),
        pytest.param("text\n", ["error: f:1: expected a mapping of keys to values at the top"], id="text"),
        pytest.param(
            "a:\n\tb: 1\n",
            [
                "error: f:2: is not YAML: found character '\\t' that cannot start any token\n"
                "  indent with spaces: YAML does not allow tabs"
            ],
            id="tab",
        ),
        pytest.param(
            "a: b: c\n",
            [
                "error: f:1: is not YAML: mapping values are not allowed here\n  a value with ': ' in it has to be put in quotes"
            ],
            id="colon",
        ),
        pytest.param(
            "a: 1\nb:\n  c: 1\n  c: 2\na: 3\n",
            [
                "error: f:4: b.c: stands twice, first in line 3\n  keep one of them",
                "error: f:5: a: stands twice, first in line 1\n  keep one of them",
            ],
            id="duplicates",
        ),
        pytest.param(
            "a: &x [1]\nb: *x\n",
            ["error: f:2: b: uses a YAML alias (*name)\n  write the value out: aliases are refused"],
            id="alias",
        ),
        pytest.param("1: a\n", ["error: f:1: key '1' is not text\n  put it in quotes: \"1\""], id="number-key"),
        pytest.param("on: a\n", ["error: f:1: key 'on' is not text\n  put it in quotes: \"on\""], id="bool-key"),
        pytest.param("? [a]\n: b\n", ["error: f:1: a key is not text"], id="list-key"),
    ],
)
def test_refused(text: str, problems: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        load(text, "f")
    assert [str(problem) for problem in caught.value.problems] == problems


@pytest.mark.parametrize(
    ("text", "fragment"),
    [
        pytest.param("a: 'open\nb: 1\n", "f:", id="open-quote"),
        pytest.param("a: [1, 2\n", "f:", id="open-list"),
        pytest.param("a: !!python/object/apply:os.system ['touch canary']\n", "f:1", id="python-tag"),
        pytest.param("a: !secret x\n", "f:1", id="unknown-tag"),
        pytest.param("a: " + "[" * 5000, "f", id="deep"),
        pytest.param("a: 1\nb: 2024-99-99\n", "f:2", id="impossible-date"),
        pytest.param("a: 1\nb: " + "9" * 5000 + "\n", "f:2", id="endless-number"),
        pytest.param('a: 1\nb: "\\ud83d"\n', "f:2", id="half-a-pair"),
        pytest.param("a: 1\n--- \nb: 2\n", "f:2", id="two-documents"),
    ],
)
def test_refused_with_place(text: str, fragment: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(text, "f")
    assert str(caught.value).startswith(f"error: {fragment}")


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        pytest.param(b"a: 1\nb: \xff\n", "error: f:2: is not UTF-8 text\n  save the file as UTF-8", id="latin-1"),
        pytest.param("a: 1\n".encode("utf-16"), "error: f:1: is not UTF-8 text\n  save the file as UTF-8", id="utf-16"),
        pytest.param(b"a: 1\n\0", "error: f:2: has a NUL byte in it\n  save the file as UTF-8 text", id="nul"),
        pytest.param(
            b"x" * (MAX_BYTES + 1),
            "error: f: 0.3 MiB is larger than the 256 KiB a configuration may have",
            id="large",
        ),
    ],
)
def test_unreadable_content(tmp_path: Path, raw: bytes, message: str) -> None:
    (tmp_path / "f").write_bytes(raw)
    with pytest.raises(ConfigError) as caught:
        read_text(tmp_path / "f", "f")
    assert str(caught.value) == message


def test_reads_through_links_and_byte_order_mark(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"\xef\xbb\xbfa: 1\r\n")
    (tmp_path / "link").symlink_to("f")
    assert read_text(tmp_path / "link", "link") == "a: 1\r\n"


@pytest.mark.parametrize(("name", "message"), [("gone", "no such file"), ("folder", "is a directory, not a file")])
def test_not_a_file(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "gone").symlink_to("nowhere")
    with pytest.raises(ConfigError) as caught:
        read_text(tmp_path / name, name)
    assert str(caught.value) == f"error: {name}: {message}"

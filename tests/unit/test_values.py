"""Text to values, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from stack import values


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("8192", 8192),
        (8192, 8192),
        ("128K", 131072),
        ("128k", 131072),
        (" 2 M ", 2 << 20),
        ("1G", 1 << 30),
        ("0.5K", 512),
        ("1.5k", 1536),
    ],
)
def test_size(text: object, size: int) -> None:
    assert values.parse_size(text) == size


BAD_SIZES = ["128Q", "", "K", "-1", "-5K", "0", "0.3", "1e3", "nan", ".inf", "128KB", True, None, "9" * 400, "9" * 400 + "G"]


@pytest.mark.parametrize("text", BAD_SIZES, ids=[str(text)[:12] for text in BAD_SIZES])
def test_bad_size(text: object) -> None:
    with pytest.raises(ValueError, match="expected"):
        values.parse_size(text)


@pytest.mark.parametrize(
    ("text", "length"),
    [
        ("8192", 8192),
        ("32k", 32000),
        ("32K", 32768),
        ("1.5k", 1500),
        ("1m", 1_000_000),
        ("1M", 1 << 20),
        ("auto", None),
        ("-1", None),
    ],
)
def test_vllm_size(text: str, length: int | None) -> None:
    assert values.parse_vllm_size(text) == length


@pytest.mark.parametrize("text", ["", "32q", "k", "-2", "9" * 400], ids=["empty", "unit", "bare-unit", "negative", "huge"])
def test_bad_vllm_size(text: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        values.parse_vllm_size(text)


@pytest.mark.parametrize(("text", "number"), [("0.7", 0.7), (1, 1.0), ("1e-3", 0.001), (" 2 ", 2.0)])
def test_number(text: object, number: float) -> None:
    assert values.parse_number(text) == number


@pytest.mark.parametrize("text", ["", "warm", "nan", "inf", "-inf", "1e999", True, [1], None], ids=str)
def test_bad_number(text: object) -> None:
    with pytest.raises(ValueError, match="expected a"):
        values.parse_number(text)


@pytest.mark.parametrize(
    ("parser", "text", "message"),
    [
        (values.number_between(0, 2), "2.1", "expected a number at least 0 and at most 2, got '2.1'"),
        (values.number_between(0, 2), "-0.1", "expected a number at least 0 and at most 2, got '-0.1'"),
        (values.number_between(0, 1, above=True), "0", "expected a number above 0 and at most 1, got '0'"),
        (values.number_between(1), "0.5", "expected a number at least 1, got '0.5'"),
        (values.IntRange(1), "0", "expected a whole number at least 1, got '0'"),
        (values.IntRange(1), "1.5", "expected a whole number, got '1.5'"),
        (values.IntRange(1, 65535), "65536", "expected a whole number from 1 to 65535, got '65536'"),
        (values.parse_top_k, "-2", "expected a whole number at least -1, got '-2'"),
        (values.parse_bool, "maybe", "expected true or false, got 'maybe'"),
        (values.parse_address, "localhost", "expected an IP address such as 127.0.0.1 or 0.0.0.0, got 'localhost'"),
        (values.parse_address, "127.1", "expected an IP address such as 127.0.0.1 or 0.0.0.0, got '127.1'"),
        (values.parse_text, "one\ntwo", "expected one line of text"),
        (values.OneOf("auto", "hub", "pypi"), "ftp", "expected auto, hub or pypi, got 'ftp'"),
        *(
            (values.parse_memory, text, f"expected an amount of memory such as 48g, or 0 for no limit, got {text!r}")
            for text in ("48", "48gb", "1.5g", "00g", "-1g", "4 g", "g", "48g\n0")
        ),
        *(
            (values.parse_user, text, f"expected auto or numbers such as 1000:1000, got {text!r}")
            for text in ("1000", "root", "root:root", "1000:", ":0", "-1:0", "1:1:1", "1:1 --x")
        ),
    ],
)
def test_message(parser: Any, text: str, message: str) -> None:
    with pytest.raises(ValueError, match="expected") as caught:
        parser(text)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("parser", "text", "value"),
    [
        (values.number_between(0, 2), "0", 0.0),
        (values.number_between(0, 1, above=True), "1", 1.0),
        (values.IntRange(1, 65535), "65535", 65535),
        (values.IntRange(1), "16.0", 16),
        (values.parse_top_k, "-1", -1),
        (values.parse_top_k, "0", 0),
        (values.parse_bool, "ON", True),
        (values.parse_bool, False, False),
        (values.parse_address, " ::1 ", "::1"),
        (values.parse_text, "  a b ", "a b"),
        (values.OneOf("auto", "hub"), " Hub ", "hub"),
        (values.parse_memory, " 48G ", "48g"),
        (values.parse_memory, 0, "0"),
        (values.parse_memory, "1024b", "1024b"),
        (values.parse_user, " AUTO ", "auto"),
        (values.parse_user, "1000:0", "1000:0"),
    ],
)
def test_accepted(parser: Any, text: object, value: object) -> None:
    parsed = parser(text)
    assert (parsed, type(parsed)) == (value, type(value))

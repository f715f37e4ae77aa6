"""Figures and names as text, for terminal and page. Pure."""

from __future__ import annotations

from collections.abc import Sequence

# What a status of a request that was not answered means.
MEANING = {
    "400": "wrong request",
    "401": "wrong key",
    "403": "key may not",
    "404": "no such model",
    "413": "too large",
    "429": "over the key's limit",
    "499": "client went away",
    "500": "engine failed",
    "503": "engine was away",
}


def pair(values: Sequence[float] | None) -> str:
    """Two times in seconds, with as many digits as say something."""
    return " / ".join(seconds(value) for value in values) if values else ""


def seconds(value: float) -> str:
    """0.04, 1.2, 35, 1,200."""
    return f"{value:.2f}" if value < 1 else f"{value:.1f}" if value < 10 else f"{value:,.0f}"


def short(value: float) -> str:
    """A number to three digits: 940, 12.5k, 3.2M."""
    for size, sign in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size * 0.9995:  # what would be 1,000 of the smaller one when rounded
            scaled = value / size
            return f"{scaled:,.0f}{sign}" if scaled >= 100 else f"{scaled:.3g}{sign}"
    return f"{value:.3g}"


def printable(text: str) -> str:
    """A text that came with a request, without what would command a terminal."""
    return "".join(char if char.isprintable() else "?" for char in text)

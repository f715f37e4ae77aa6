"""The text in which programs offer their metrics (Prometheus' text format, as prometheus_client writes it). Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

_SAMPLE = re.compile(r"^(?P<name>[A-Za-z_:][\w:]*)(?:\{(?P<labels>.*)\})? (?P<value>\S+)(?: -?\d+)?$")
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
_ESCAPED = {r"\\": "\\", r"\n": "\n", r"\"": '"'}


@dataclass(frozen=True)
class Sample:
    """A value."""

    name: str
    labels: Mapping[str, str]
    value: float


def samples(text: str, names: frozenset[str]) -> Iterator[Sample]:
    """The samples of these names; lines that make no sense are left out."""
    for line in text.splitlines():
        if line.startswith("#") or line.partition("{")[0].partition(" ")[0] not in names:
            continue
        found = _SAMPLE.match(line)
        try:
            if found:
                yield Sample(found["name"], _labels(found["labels"] or ""), float(found["value"]))
        except ValueError:
            continue


def _labels(text: str) -> dict[str, str]:
    return {
        name: re.sub(r"\\.", lambda escape: _ESCAPED.get(escape[0], escape[0]), value)
        for name, value in _LABEL.findall(text)
    }

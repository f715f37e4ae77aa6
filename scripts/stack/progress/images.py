"""How much of an image has been fetched, from what `docker compose build` and `up` print. Pure."""

from __future__ import annotations

import re

# BuildKit's plain progress: `#6 sha256:4f4fb700ef54 31.46MB / 52.58MB 0.9s`.
_BUILD = re.compile(r"^#\d+ (sha256:[0-9a-f]+) ([\d.]+)([kMGT]?B) / ([\d.]+)([kMGT]?B)")
# Compose's plain progress: ` fe07684b16b8 Downloading [==>    ]  10.5MB/29.5MB`.
_PULL = re.compile(r"^\s*([0-9a-f]{12}) Downloading .*?([\d.]+)([kMGT]?B)/([\d.]+)([kMGT]?B)")
_DONE = re.compile(r"^\s*([0-9a-f]{12}) (?:Download complete|Pull complete)")
_FACTOR = {"B": 1, "kB": 1e3, "MB": 1e6, "GB": 1e9, "TB": 1e12}


class Layers:
    """The layers that have been seen, and how much of each is here."""

    def __init__(self) -> None:
        self._layers: dict[str, tuple[float, float]] = {}

    def feed(self, line: str) -> bool:
        """Take a line; whether it told of a layer."""
        match = _BUILD.match(line) or _PULL.match(line)
        if match:
            name, got, unit, of, unit_of = match.groups()
            self._layers[name] = float(got) * _FACTOR[unit], float(of) * _FACTOR[unit_of]
            return True
        done = _DONE.match(line)
        if done and done[1] in self._layers:
            of = self._layers[done[1]][1]
            self._layers[done[1]] = of, of
        return done is not None

    @property
    def got(self) -> float:
        """Bytes that are here."""
        return sum(got for got, _ in self._layers.values())

    @property
    def of(self) -> float:
        """Bytes of the layers that are known; layers that have not begun are not."""
        return sum(of for _, of in self._layers.values())

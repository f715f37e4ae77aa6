"""Charts over time as inline SVG: bars that are stacked, and lines."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

from stack.html_page import ticks

WIDTH, HEIGHT = 500, 220
LEFT, RIGHT, TOP, BOTTOM = 54, 10, 12, 26
LABELS = 8


@dataclass(frozen=True)
class Series:
    """What a colour stands for.

    Attributes:
        kind: the CSS class.
        label: for the legend and the titles.
        values: one for each period; None where there is none.
    """

    kind: str
    label: str
    values: Sequence[float | None]


def stacked(heading: str, names: Sequence[str], series: Sequence[Series], show: Callable[[float], str]) -> str:
    """Bars: the series on top of each other.

    Args:
        heading: what is shown.
        names: the periods.
        series: from the bottom up.
        show: a value as text.
    """
    sums = [sum(one.values[index] or 0 for one in series) for index in range(len(names))]
    plot = _Plot(names, max(sums, default=0.0))
    width = plot.step * (0.72 if plot.step > 6 else 0.9)
    parts = []
    for index, name in enumerate(names):
        below = 0.0
        said = ", ".join(f"{one.label} {show(one.values[index] or 0)}" for one in series if one.values[index])
        bars = []
        for one in series:
            value = one.values[index] or 0
            if value:
                # Half a pixel at least: what is there is seen.
                high = max(plot.y(below) - plot.y(below + value), 0.5)
                bars.append(
                    f'<rect class="{one.kind}" x="{plot.x(index) - width / 2:.1f}" y="{plot.y(below) - high:.1f}" '
                    f'width="{width:.1f}" height="{high:.1f}"/>'
                )
                below += value
        if bars:
            parts.append(f"<g><title>{escape(name)}: {escape(said)}</title>{''.join(bars)}</g>")
    return plot.figure(heading, series, "".join(parts), show)


def lines(heading: str, names: Sequence[str], series: Sequence[Series], show: Callable[[float], str]) -> str:
    """Lines with points; a gap where there is no value.

    Args:
        heading: what is shown.
        names: the periods.
        series: one a line.
        show: a value as text.
    """
    plot = _Plot(names, max((value for one in series for value in one.values if value is not None), default=0.0))
    parts = []
    for one in series:
        for run in _runs(one.values):
            points = " ".join(f"{plot.x(index):.1f},{plot.y(value):.1f}" for index, value in run)
            parts.append(f'<polyline class="{one.kind}" points="{points}"/>')
        radius = 3 if plot.step > 8 else 1.5
        for index, value in enumerate(one.values):
            if value is not None:
                said = f"{names[index]}: {one.label} {show(value)}"
                place = f'cx="{plot.x(index):.1f}" cy="{plot.y(value):.1f}" r="{radius}"'
                parts.append(f'<circle class="{one.kind}" {place}><title>{escape(said)}</title></circle>')
    return plot.figure(heading, series, "".join(parts), show)


class _Plot:
    """Axes."""

    def __init__(self, names: Sequence[str], highest: float) -> None:
        self.names = names
        self.scale = ticks(highest)
        self.step = (WIDTH - LEFT - RIGHT) / max(len(names), 1)

    def x(self, index: int) -> float:
        return LEFT + self.step * (index + 0.5)

    def y(self, value: float) -> float:
        return TOP + (HEIGHT - TOP - BOTTOM) * (1 - value / self.scale[-1])

    def figure(self, heading: str, series: Sequence[Series], drawn: str, show: Callable[[float], str]) -> str:
        parts = []
        for value in self.scale:
            y = self.y(value)
            parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
            parts.append(f'<text class="tick" x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{escape(show(value))}</text>')
        every = -(-len(self.names) // LABELS)
        for index in range(0, len(self.names), max(every, 1)):
            name = escape(self.names[index])
            parts.append(f'<text class="tick" x="{self.x(index):.1f}" y="{HEIGHT - 6}" text-anchor="middle">{name}</text>')
        legend = "".join(f'<span><i class="{one.kind}"></i>{escape(one.label)}</span>' for one in series)
        return (
            f'<figure><figcaption>{escape(heading)}</figcaption><svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
            f'aria-label="{escape(heading)}">{"".join(parts)}{drawn}</svg><div class="legend">{legend}</div></figure>'
        )


def _runs(values: Sequence[float | None]) -> list[list[tuple[int, float]]]:
    """The stretches without a gap, of two points and more."""
    runs: list[list[tuple[int, float]]] = [[]]
    for index, value in enumerate(values):
        if value is None:
            runs.append([])
        else:
            runs[-1].append((index, value))
    return [run for run in runs if len(run) > 1]

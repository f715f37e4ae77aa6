"""A benchmark's result as one HTML file: no script, nothing from elsewhere, for light and dark screens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

from stack import html_page
from stack.bench.report import DIRECT, GATEWAY, TIMES, Result, Row, cells

WIDTH, HEIGHT = 460, 250
LEFT, RIGHT, TOP, BOTTOM = 52, 14, 12, 38
SIDES = (DIRECT, GATEWAY)


@dataclass(frozen=True)
class Line:
    """A line of a plot.

    Attributes:
        side: direct or gateway; gives the colour.
        style: solid, dashed or earlier.
        label: for the legend and the points.
        values: one for each concurrency; None leaves a gap.
    """

    side: str
    style: str
    label: str
    values: Sequence[float | None]


def render(result: Result, earlier: Result | None = None) -> str:
    """The page.

    Args:
        result: what was measured.
        earlier: what to show the change from.
    """
    title = f"{result.model}: gateway and engine under load"
    settings = result.settings
    facts = [
        f"{settings['route']}, {settings['input_tokens']} tokens in, {settings['output_tokens']} out, "
        f"{result.runtime} runtime",
        result.where(),
    ]
    if earlier:
        facts.append(f"compared with {earlier.model}, {earlier.where()}")
    body = (
        f"{_tiles(result)}\n{_plots(result, earlier)}\n{_table(result, earlier)}\n{_failures(result)}"
        f"<footer><p>Times are p50 / p95 / p99 in milliseconds{', changes those of p50' if earlier else ''}. "
        f"Measured by <code>vllm bench serve</code> with</p><pre>{escape(result.command)}</pre></footer>"
    )
    return html_page.document(title, facts, body, STYLE)


def _tiles(result: Result) -> str:
    """Gateway / direct for each concurrency."""
    tiles = []
    for concurrency in result.concurrencies():
        ratio = result.ratio(concurrency)
        text = f"{ratio:.3f}" if ratio else "-"
        tiles.append(f"<div><strong>{text}</strong><span>{concurrency} at once</span></div>")
    return f'<h2>Throughput, gateway / direct</h2><section class="tiles">{"".join(tiles)}</section>'


def _plots(result: Result, earlier: Result | None) -> str:
    def throughput(row: Row) -> float | None:
        return row.output_tokens_per_s if row.errors < row.requests else None

    plots = [_plot("Output tokens a second", _lines(result, earlier, {"": throughput}), result.concurrencies())]
    headings = ("Time to the first token, ms", "Time per further token, ms", "Time to the end of the answer, ms")
    for name, heading in zip(TIMES, headings, strict=True):
        pick = {share: _time(name, share) for share in ("p50", "p99")}
        plots.append(_plot(heading, _lines(result, earlier, pick), result.concurrencies()))
    return f'<section class="plots">{"".join(plots)}</section>'


def _time(name: str, share: str) -> Callable[[Row], float | None]:
    def pick(row: Row) -> float | None:
        value: float | None = getattr(row, name)[share]
        return value

    return pick


def _lines(result: Result, earlier: Result | None, pick: dict[str, Callable[[Row], float | None]]) -> list[Line]:
    """A line for each side and pick; of the earlier result the first pick only."""
    levels = result.concurrencies()

    def values(one: Result, side: str, take: Callable[[Row], float | None]) -> list[float | None]:
        rows = [one.row(side, level) for level in levels]
        return [take(row) if row else None for row in rows]

    lines = []
    for side in SIDES:
        for index, (name, take) in enumerate(pick.items()):
            style = "dashed" if index else "solid"
            lines.append(Line(side, style, f"{side} {name}".strip(), values(result, side, take)))
        if earlier:
            name, take = next(iter(pick.items()))
            lines.append(Line(side, "earlier", f"{side} {name} earlier".replace("  ", " "), values(earlier, side, take)))
    return [line for line in lines if any(value is not None for value in line.values)]


def _plot(heading: str, lines: Sequence[Line], levels: Sequence[int]) -> str:
    """One figure with a legend."""
    scale = html_page.ticks(max((value for line in lines for value in line.values if value is not None), default=0.0))
    width, height = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM

    def x(index: int) -> float:
        return LEFT + width * (index + 0.5) / len(levels)

    def y(value: float) -> float:
        return TOP + height * (1 - value / scale[-1])

    parts = []
    for value in scale:
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(value):.1f}" y2="{y(value):.1f}"/>')
        parts.append(f'<text class="tick" x="{LEFT - 8}" y="{y(value) + 4:.1f}" text-anchor="end">{value:,g}</text>')
    for index, level in enumerate(levels):
        parts.append(f'<text class="tick" x="{x(index):.1f}" y="{HEIGHT - 20}" text-anchor="middle">{level}</text>')
    middle = LEFT + width / 2
    parts.append(f'<text class="tick" x="{middle:.0f}" y="{HEIGHT - 3}" text-anchor="middle">requests at once</text>')
    for line in lines:
        points = [(x(index), y(value), value) for index, value in enumerate(line.values) if value is not None]
        kind = f"{line.side} {line.style}"
        parts.append(f'<polyline class="{kind}" points="{" ".join(f"{left:.1f},{top:.1f}" for left, top, _ in points)}"/>')
        for left, top, value in points:
            title = f"<title>{escape(line.label)}: {value:,.1f}</title>"
            parts.append(f'<circle class="{kind}" cx="{left:.1f}" cy="{top:.1f}" r="3.5">{title}</circle>')
    legend = "".join(
        f'<span><svg viewBox="0 0 26 10" width="26" height="10"><line class="{line.side} {line.style}" x1="1" x2="25" '
        f'y1="5" y2="5"/></svg>{escape(line.label)}</span>'
        for line in lines
    )
    return (
        f'<figure><figcaption>{escape(heading)}</figcaption><svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{escape(heading)}">{"".join(parts)}</svg><div class="legend">{legend}</div></figure>'
    )


def _table(result: Result, earlier: Result | None) -> str:
    headings = ("at once", "", "tokens/s", "req/s", *TIMES.values(), "errors", "gateway / direct")
    lines = []
    for concurrency in result.concurrencies():
        for side in SIDES:
            row = result.row(side, concurrency)
            if row is None:
                continue
            found = [
                f"<td>{escape(text)}{f' <small>{escape(changed)}</small>' if changed else ''}</td>"
                for text, changed in cells(result, row, earlier)
            ]
            ratio = result.ratio(concurrency) if side == GATEWAY else None
            first = f"<td>{concurrency if side == DIRECT else ''}</td><th scope=row><i class={side}></i>{side}</th>"
            lines.append(f"<tr class={side}>{first}{''.join(found)}<td><b>{f'{ratio:.3f}' if ratio else ''}</b></td></tr>")
    head = "".join(f"<th>{escape(heading)}</th>" for heading in headings)
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{"".join(lines)}</tbody></table></div>'


def _failures(result: Result) -> str:
    failed = [row for row in result.rows if row.errors]
    texts = [f"{row.side}, {row.concurrency} at once: {row.errors} of {row.requests}, first: {row.error}" for row in failed]
    lines = [f"<li>{escape(text)}</li>" for text in texts]
    return f'<section class="failed"><h2>Failed requests</h2><ul>{"".join(lines)}</ul></section>\n' if lines else ""


STYLE = """
polyline,line.direct,line.gateway{fill:none;stroke-width:2.2;stroke-linejoin:round}
.direct{stroke:var(--first)}.gateway{stroke:var(--second)}circle{stroke-width:0}
circle.direct{fill:var(--first)}circle.gateway{fill:var(--second)}
polyline.dashed,line.dashed{stroke-dasharray:6 4}polyline.earlier,line.earlier{stroke-dasharray:1.5 4;stroke-linecap:round}
.earlier{opacity:.6}
tr.gateway:not(:last-child)>*{border-bottom:1px solid var(--line)}
th i{display:inline-block;width:9px;height:9px;border-radius:50%;margin-right:7px}
i.direct{background:var(--first)}i.gateway{background:var(--second)}.failed,.failed h2{color:var(--bad)}
pre{background:var(--card);border:1px solid var(--line);border-radius:8px;padding:10px 12px;
overflow-x:auto;font-size:12px}
"""

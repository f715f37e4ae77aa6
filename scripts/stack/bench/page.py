"""A benchmark's result as one HTML file: no script, nothing from elsewhere, for light and dark screens."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

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
    facts_html = "".join(f"<p>{escape(fact)}</p>" for fact in facts)
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="color-scheme" content="light dark">'
        f"<style>{STYLE}</style></head>\n<body><main><header><h1>{escape(title)}</h1>{facts_html}</header>\n"
        f"{_tiles(result)}\n{_plots(result, earlier)}\n{_table(result, earlier)}\n{_failures(result)}"
        f"<footer><p>Times are p50 / p95 / p99 in milliseconds{', changes those of p50' if earlier else ''}. "
        f"Measured by <code>vllm bench serve</code> with</p><pre>{escape(result.command)}</pre></footer>"
        "</main></body></html>\n"
    )


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


def ticks(highest: float) -> list[float]:
    """Round numbers from 0 to the first one at or above the highest value."""
    if highest <= 0:
        return [0.0, 1.0]
    rough = highest / 4
    size = 10.0 ** math.floor(math.log10(rough))
    step = next(size * factor for factor in (1, 2, 2.5, 5, 10) if size * factor >= rough)
    return [step * index for index in range(math.ceil(highest / step - 1e-9) + 1)]


def _plot(heading: str, lines: Sequence[Line], levels: Sequence[int]) -> str:
    """One figure with a legend."""
    scale = ticks(max((value for line in lines for value in line.values if value is not None), default=0.0))
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
:root{--ground:#fafaf8;--card:#fff;--ink:#1c1f24;--soft:#626a75;--line:#e2e4e8;--direct:#2563c9;--gateway:#c2570c;--bad:#b42318}
@media(prefers-color-scheme:dark){:root{--ground:#14161a;--card:#1c1f25;--ink:#e8eaed;--soft:#9aa3af;--line:#31363f;
--direct:#6ea8fe;--gateway:#f59e4b;--bad:#ff8a7a}}
*{box-sizing:border-box}body{margin:0;background:var(--ground);color:var(--ink);font:15px/1.5 system-ui,sans-serif}
main{max-width:1080px;margin:0 auto;padding:32px 20px 48px}h1{font-size:24px;line-height:1.25;margin:0 0 6px}
h2{font-size:14px;font-weight:600;margin:26px 0 8px}header p,footer p{margin:2px 0;color:var(--soft);font-size:13px}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(120px,1fr));gap:12px}
.tiles div,figure,.wide{background:var(--card);border:1px solid var(--line);border-radius:10px}
.tiles div{padding:12px 16px}.tiles strong{display:block;font-size:24px;font-variant-numeric:tabular-nums}
.tiles span{color:var(--soft);font-size:13px}
.plots{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(400px,100%),1fr));gap:16px;margin:20px 0}
figure{margin:0;padding:14px 16px 12px}figcaption{font-weight:600;font-size:14px;margin-bottom:6px}
figure>svg{width:100%;height:auto;display:block}
.legend{display:flex;flex-wrap:wrap;gap:2px 16px;font-size:12px;color:var(--soft)}
.legend span{display:inline-flex;align-items:center;gap:6px}.grid{stroke:var(--line)}.tick{fill:var(--soft);font-size:12px}
polyline,line.direct,line.gateway{fill:none;stroke-width:2.2;stroke-linejoin:round}
.direct{stroke:var(--direct)}.gateway{stroke:var(--gateway)}circle{stroke-width:0}
circle.direct{fill:var(--direct)}circle.gateway{fill:var(--gateway)}
polyline.dashed,line.dashed{stroke-dasharray:6 4}polyline.earlier,line.earlier{stroke-dasharray:1.5 4;stroke-linecap:round}
.earlier{opacity:.6}.wide{overflow-x:auto}table{border-collapse:collapse;width:100%;font-size:13px;font-variant-numeric:tabular-nums}
th,td{padding:7px 8px;text-align:right;white-space:nowrap;font-weight:400}
thead th{color:var(--soft);white-space:normal;border-bottom:1px solid var(--line)}
tbody th{text-align:left}tr.gateway:not(:last-child)>*{border-bottom:1px solid var(--line)}td b{font-weight:600}
small{color:var(--soft)}th i{display:inline-block;width:9px;height:9px;border-radius:50%;margin-right:7px}
i.direct{background:var(--direct)}i.gateway{background:var(--gateway)}.failed,.failed h2{color:var(--bad)}
footer{margin-top:24px}pre{background:var(--card);border:1px solid var(--line);border-radius:8px;padding:10px 12px;
overflow-x:auto;font-size:12px}
"""

"""The usage of a period as one HTML file that can be sent to somebody: no script, nothing from elsewhere, no key."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from html import escape

from stack import html_page
from stack.usage import charts
from stack.usage.charts import Series
from stack.usage.query import Row, Usage
from stack.usage.texts import MEANING, pair, printable, seconds, short

# Rows of a table; the others are told together.
SHOWN = 20
FORMS = {"hour": "%H:%M", "day": "%-d %b", "week": "%-d %b", "month": "%b %Y"}
HEADINGS = (
    "requests",
    "",
    "errors",
    "cancelled",
    "tokens in",
    "tokens out",
    "tokens/s",
    "first\N{NO-BREAK SPACE}token,\N{NO-BREAK SPACE}s",
    "answer,\N{NO-BREAK SPACE}s",
)
# Of their columns, the names' first, per cent.
WIDTHS = (18, 8, 12, 7, 8, 11, 10, 7, 10, 9)


def render(usage: Usage) -> str:
    """The page."""
    period, total = usage.period, usage.total
    facts = [
        f"{_moment(period.since)} to {_moment(period.until)} ({period.until:%Z})",
        f"{total.requests:,} requests, {total.tokens_in:,} tokens read and {total.tokens_out:,} written",
    ]
    tables = [_table(f"By {name}", name, usage.by[name], total) for name in ("model", "key", "client")]
    body = f"{_tiles(total)}\n{_charts(usage)}\n{''.join(tables)}{_errors(usage)}\n{FOOTER}"
    return html_page.document("Usage of the gateway", facts, body, STYLE)


def _moment(when: datetime) -> str:
    return f"{when:%a} {when.day} {when:%B %Y, %H:%M}"


def _tiles(total: Row) -> str:
    # Rounded down: 100 % are all of them.
    share = f"{10_000 * total.answered // total.requests / 100:g} %" if total.requests else "-"
    speed = f"{total.tokens_per_s:,.1f}" if total.tokens_per_s else "-"
    tiles = [
        (short(total.requests), "requests"),
        (share, "answered"),
        (short(total.tokens_in), "tokens in"),
        (short(total.tokens_out), "tokens out"),
        (speed, "tokens/s"),
        (f"{seconds(total.ttft[0])} s" if total.ttft else "-", "first token, p50"),
        (f"{seconds(total.latency[0])} s" if total.latency else "-", "answer, p50"),
    ]
    made = "".join(f"<div><strong>{escape(text)}</strong><span>{escape(name)}</span></div>" for text, name in tiles)
    return f'<section class="tiles">{made}</section>'


def _charts(usage: Usage) -> str:
    rows, unit = usage.by["period"], usage.period.unit
    names = [edge.strftime(FORMS[unit]) for edge in usage.period.edges]

    def times(pick: int, name: str) -> list[float | None]:
        found = [getattr(row, name) for row in rows]
        return [values[pick] if values else None for values in found]

    made = [
        charts.stacked(
            f"Requests by {unit}",
            names,
            [
                Series("answered", "answered", [row.answered for row in rows]),
                Series("failed", "errors", [row.errors for row in rows]),
                Series("cancelled", "cancelled", [row.cancelled for row in rows]),
            ],
            short,
        ),
        charts.stacked(
            f"Tokens by {unit}",
            names,
            [
                Series("in", "in", [row.tokens_in for row in rows]),
                Series("out", "out", [row.tokens_out for row in rows]),
            ],
            short,
        ),
    ]
    for name, heading in (("ttft", "Time to the first token of streams, s"), ("latency", "Time to the whole answer, s")):
        series = [Series("p50", "p50", times(0, name)), Series("p95", "p95", times(1, name))]
        made.append(charts.lines(heading, names, series, lambda value: f"{value:,g}" if value >= 1 else f"{value:.2g}"))
    return f'<section class="plots">{"".join(made)}</section>'


def _table(heading: str, first: str, rows: Sequence[Row], total: Row) -> str:
    if not rows:
        return ""
    most = max(row.requests for row in rows)
    lines = [_line(printable(row.name), row, most) for row in rows[:SHOWN]]
    rest = rows[SHOWN:]
    if rest:
        names = ("requests", "answered", "cancelled", "tokens_in", "tokens_out", "seconds")
        sums = {name: sum(getattr(row, name) for row in rest) for name in names}
        lines.append(_line(f"{len(rest)} more", Row("", **sums), most))
    lines.append(_line("total", total, 0).replace("<tr>", '<tr class="total">'))
    head = "".join(f"<th>{escape(text)}</th>" for text in HEADINGS)
    # Of all tables the same, so that the columns stand below each other.
    widths = "".join(f'<col style="width:{share}%">' for share in WIDTHS)
    head = f'<thead><tr><th class="name">{escape(first)}</th>{head}</tr></thead>'
    return (
        f'<h2>{escape(heading)}</h2><div class="wide"><table class="even">{widths}{head}'
        f"<tbody>{''.join(lines)}</tbody></table></div>\n"
    )


def _line(name: str, row: Row, most: int) -> str:
    share = f'<div class="meter" style="width:{100 * row.requests / most:.1f}%"></div>' if most else ""
    figures = [
        f"{row.errors:,}" if row.errors else "",
        f"{row.cancelled:,}" if row.cancelled else "",
        f"{row.tokens_in:,}",
        f"{row.tokens_out:,}",
        f"{row.tokens_per_s:,.1f}" if row.tokens_per_s else "",
        pair(row.ttft),
        pair(row.latency),
    ]
    cells = "".join(f"<td>{escape(text)}</td>" for text in figures)
    first = f'<th scope="row" class="name">{escape(name)}</th><td>{row.requests:,}</td><td class="bar">{share}</td>'
    return f"<tr>{first}{cells}</tr>"


def _errors(usage: Usage) -> str:
    if not usage.errors:
        return ""
    most = max(usage.errors.values())
    lines = "".join(
        f'<tr><th scope="row">{escape(code)}</th><td class="what">{escape(MEANING.get(code, ""))}</td><td>{count:,}</td>'
        f'<td class="bar"><div class="meter bad" style="width:{100 * count / most:.1f}%"></div></td></tr>'
        for code, count in usage.errors.items()
    )
    head = '<th class="name">status</th><th></th><th>requests</th><th></th>'
    return (
        f'<h2>Not answered</h2><div class="wide short"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{lines}</tbody></table></div>"
    )


FOOTER = """<footer><p>Times are p50 / p95 of answered requests, from the gateway's beginning of work on them; those to the
first token are of streams. Tokens are those of answered requests. Tokens/s: written tokens / seconds of answers, waiting
included. Cancelled: the client went away before the answer began.</p></footer>"""
STYLE = """
.answered,.in,.p50{fill:var(--first);background:var(--first)}.out,.p95{fill:var(--second);background:var(--second)}
.failed{fill:var(--bad);background:var(--bad)}.cancelled{fill:var(--soft);background:var(--soft)}
polyline{fill:none!important;stroke-width:2;stroke-linejoin:round}polyline.p50{stroke:var(--first)}
polyline.p95{stroke:var(--second);stroke-dasharray:5 4}
.legend i{width:10px;height:10px;border-radius:2px;display:inline-block}
.tiles{margin-top:18px}.tiles div{padding:12px 14px}.tiles strong{font-size:22px;white-space:nowrap}
.even{table-layout:fixed;min-width:940px}.name{text-align:left;max-width:260px;overflow:hidden;text-overflow:ellipsis}
.bar{padding-left:0}td.bar{text-align:left}.short .bar{width:40%}
.meter{height:8px;border-radius:4px;background:var(--first);min-width:2px}
.meter.bad{background:var(--bad)}.total>*{border-top:1px solid var(--line);font-weight:600}
.short{max-width:520px}.what{text-align:left;color:var(--soft)}
@media print{body{background:#fff}.tiles div,figure,.wide{break-inside:avoid}}
"""

"""What this project's HTML pages have in common: one file, no script, nothing from elsewhere, for light and dark screens."""

from __future__ import annotations

import math
from html import escape


def document(title: str, facts: list[str], body: str, style: str) -> str:
    """A whole page.

    Args:
        title: plain text; the page's heading too.
        facts: lines of plain text under it.
        body: HTML that follows.
        style: CSS beside STYLE.
    """
    facts_html = "".join(f"<p>{escape(fact)}</p>" for fact in facts)
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="color-scheme" content="light dark">'
        f"<style>{STYLE}{style}</style></head>\n<body><main><header><h1>{escape(title)}</h1>{facts_html}</header>\n"
        f"{body}</main></body></html>\n"
    )


def ticks(highest: float) -> list[float]:
    """Round numbers from 0 to the first one at or above the highest value."""
    if highest <= 0:
        return [0.0, 1.0]
    rough = highest / 4
    size = 10.0 ** math.floor(math.log10(rough))
    step = next(size * factor for factor in (1, 2, 2.5, 5, 10) if size * factor >= rough)
    return [step * index for index in range(math.ceil(highest / step - 1e-9) + 1)]


STYLE = """
:root{--ground:#fafaf8;--card:#fff;--ink:#1c1f24;--soft:#626a75;--line:#e2e4e8;--first:#2563c9;--second:#c2570c;--bad:#b42318}
@media(prefers-color-scheme:dark){:root{--ground:#14161a;--card:#1c1f25;--ink:#e8eaed;--soft:#9aa3af;--line:#31363f;
--first:#6ea8fe;--second:#f59e4b;--bad:#ff8a7a}}
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
.wide{overflow-x:auto}table{border-collapse:collapse;width:100%;font-size:13px;font-variant-numeric:tabular-nums}
th,td{padding:7px 8px;text-align:right;white-space:nowrap;font-weight:400}
thead th{color:var(--soft);white-space:normal;border-bottom:1px solid var(--line)}
tbody th{text-align:left}td b{font-weight:600}small{color:var(--soft)}footer{margin-top:24px}
"""

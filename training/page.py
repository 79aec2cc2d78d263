"""HTML pages that need no network: grids as tables, figures as SVG."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from html import escape
from typing import Any

from dropdrift.training.comparison import Grid
from dropdrift.training.provenance import plain

MANY_COLUMNS = 5
# Before what is said of a number's spread: a standard deviation or an interval.
_SPREAD = re.compile(r"(?= (?:±|\[[+-]?\d))")

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>{title}</title>
<style>
:root {{ color-scheme: light; }}
body {{ font: 15px/1.5 system-ui, sans-serif; color: #1a1a1a; background: white;
  max-width: 68rem; margin: 2rem auto; padding: 0 1rem; }}
h1 {{ font-size: 1.6rem; margin-bottom: 0; }}
h2 {{ font-size: 1.2rem; margin: 2.5rem 0 .5rem; border-bottom: 1px solid #ccc; }}
.note, figcaption, .spread {{ color: #5c5c5c; }}
.note, figcaption {{ font-size: .87rem; }}
.scroll {{ overflow-x: auto; }}
table {{ border-collapse: collapse; font-variant-numeric: tabular-nums; margin: .8rem 0 .3rem; }}
caption {{ text-align: left; font-weight: 600; padding-bottom: .3rem; }}
th, td {{ text-align: right; padding: .2rem .5rem; white-space: nowrap; }}
th:first-child, td:first-child {{ text-align: left; padding-left: 0; }}
.scroll :is(th, td):first-child {{ position: sticky; left: 0; background: white; }}
thead th {{ border-bottom: 1px solid #888; font-weight: 600; }}
tbody tr + tr td {{ border-top: 1px solid #eee; }}
.spread {{ font-size: .87em; }}
.narrow th {{ white-space: normal; vertical-align: bottom; }}
.narrow td {{ line-height: 1.2; vertical-align: top; }}
.narrow .spread {{ display: block; }}
figure {{ margin: 1.2rem 0; }}
.beside {{ display: flex; flex-wrap: wrap; gap: 0 1.5rem; }}
.beside figure {{ max-width: 30rem; margin: .8rem 0; }}
svg {{ max-width: 100%; height: auto; }}
details {{ margin: .4rem 0; }}
summary {{ cursor: pointer; }}
pre {{ font-size: .8rem; background: #f6f6f6; padding: .8rem; overflow-x: auto; }}
</style>
</head>
<body>
{body}
</body>
</html>
"""


def to_page(title: str, body: Iterable[str]) -> str:
    """The whole page; ``body`` holds HTML, ``title`` text."""
    return PAGE.format(title=escape(title), body="\n".join(body))


def provenance_details(summary: str, provenance: Mapping[str, Any]) -> str:
    """``provenance`` as JSON that opens under its summary."""
    text = json.dumps(plain(provenance), indent=2, ensure_ascii=False)
    return f"<details><summary>{escape(summary)}</summary><pre>{escape(text)}</pre></details>"


def to_html(grid: Grid) -> str:
    """The grid as a table that scrolls where it is too wide.

    Where there are many columns, spreads and intervals stand below the numbers.
    """
    header = "".join(f"<th>{escape(name)}</th>" for name in grid.header)
    rows = "\n".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in grid.rows)
    caption = f"<caption>{escape(grid.title)}</caption>" if grid.title else ""
    note = f'<p class="note">{escape(grid.note)}</p>' if grid.note else ""
    kind = ' class="narrow"' if len(grid.header) > MANY_COLUMNS else ""
    return (
        f'<div class="scroll"><table{kind}>{caption}<thead><tr>{header}</tr></thead>\n'
        f"<tbody>{rows}</tbody></table></div>{note}"
    )


def _cell(text: str) -> str:
    """A number's spread, or its interval, is smaller than the number."""
    value, *spread = _SPREAD.split(escape(text), maxsplit=1)
    shown = f'<span class="spread">{spread[0]}</span>' if spread else ""
    return f"<td>{value}{shown}</td>"


def to_figure(svg: str, caption: str) -> str:
    """The SVG with its caption, which is also what it is called where it cannot be seen."""
    described = svg.replace("<svg ", f'<svg role="img" aria-label="{escape(caption)}" ', 1)
    return f"<figure>{described}<figcaption>{escape(caption)}</figcaption></figure>"

"""Evaluation results compared in the terminal, and as one HTML page that needs no network."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from dropdrift.training.comparison import (
    Grid,
    Models,
    by_model,
    curves_of,
    drops_of,
    labels_of,
    metric_grid,
    robustness_grid,
)
from dropdrift.training.plots import calibration_figure, robustness_figure, to_svg
from dropdrift.training.provenance import plain, write_whole
from dropdrift.training.result import EvaluationResult

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
thead th {{ border-bottom: 1px solid #888; font-weight: 600; }}
tbody tr + tr td {{ border-top: 1px solid #eee; }}
.spread {{ font-size: .87em; }}
figure {{ margin: 1.2rem 0; }}
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


def print_comparison(results: Sequence[EvaluationResult], console: Console | None = None) -> None:
    """Print, for each label, models by metrics and the AUC with fields dropped.

    Without a console, to the standard output.

    Raises:
        ValueError: the results cannot be compared (see ``comparison.by_model``).
    """
    console = console or Console()
    models = by_model(results)
    for label in labels_of(models):
        _print(metric_grid(models, label), console)
        if len(drops_of(models, label)) > 1:
            _print(robustness_grid(models, label, "AUC", "auc"), console)


def write_report(results: Sequence[EvaluationResult], path: Path) -> None:
    """Write the HTML page: metrics, robustness, calibration, missing features, provenance.

    Raises:
        ValueError: the results cannot be compared (see ``comparison.by_model``).
    """
    models = by_model(results)
    title = f"{', '.join(models)}: evaluation on the {results[0].part} part"
    body = [f"<h1>{escape(title)}</h1>"]
    for label in labels_of(models):
        body += _label_section(models, label)
    body += _missing_section(results[0])
    body += _provenance_section(models)
    write_whole(path, PAGE.format(title=escape(title), body="\n".join(body)))


def _label_section(models: Models, label: str) -> Iterator[str]:
    yield f"<h2>{escape(label)}</h2>"
    yield _to_html(metric_grid(models, label))
    robustness = robustness_figure(models, label)
    if robustness:
        text = f"AUC and UAUC of {label} with fields dropped from every row."
        points = "Each point is a seed, lines and dashes are means over seeds."
        yield _figure(to_svg(robustness), f"{text} {points}")
        for title, metric in curves_of(models, label):
            grid = _to_html(robustness_grid(models, label, title, metric))
            yield f"<details><summary>{title} in numbers</summary>{grid}</details>"
    calibration = calibration_figure(models, label)
    if calibration:
        text = f"Calibration of {label} on complete rows, by quantiles of the prediction."
        yield _figure(to_svg(calibration), f"{text} A line for each seed.")


def _missing_section(result: EvaluationResult) -> Iterator[str]:
    rates = sorted(result.missing_rate.items(), key=lambda item: -item[1])
    missing = tuple((field, f"{rate:.2%}") for field, rate in rates if rate > 0)
    yield "<h2>Missing features</h2>"
    yield f'<p class="note">Of {len(rates)} fields, {len(missing)} are missing in some rows.</p>'
    if missing:
        grid = _to_html(Grid("", ("Field", "Rows without it"), missing))
        yield f"<details><summary>Share of rows by field</summary>{grid}</details>"


def _provenance_section(models: Models) -> Iterator[str]:
    yield "<h2>Provenance</h2>"
    for name, seeds in models.items():
        for result in seeds:
            origin = plain(result.provenance)
            summary = f"{name}, seed {result.seed}, {origin.get('date')}"
            text = json.dumps(origin, indent=2, ensure_ascii=False)
            yield (
                f"<details><summary>{escape(summary)}</summary><pre>{escape(text)}</pre></details>"
            )


def _print(grid: Grid, console: Console) -> None:
    """Wide, or with numbers and their spread on two lines where the console is narrow.

    A number is never cut: a table that is too wide even so overflows.
    """
    columns = list(zip(grid.header, *grid.rows, strict=True))
    gap = 2
    if _width(columns, gap) > console.width:
        columns[1:] = [tuple(c.replace(" ", "\n", 1) for c in cells) for cells in columns[1:]]
        gap = 1
    table = Table(
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        padding=(0, gap - 1, 0, 0),
        width=_width(columns, gap),
    )
    for index, cells in enumerate(columns):
        table.add_column(Text(cells[0]), justify="right" if index else "left", no_wrap=True)
    for row in zip(*(cells[1:] for cells in columns), strict=True):
        table.add_row(*map(Text, row))
    console.print(Text(grid.title, style="bold"))
    console.print(table, crop=False)
    console.print(Text(f"{grid.note}\n", style="dim"))


def _width(columns: Sequence[Sequence[str]], gap: int) -> int:
    longest = (max(len(line) for cell in cells for line in cell.split("\n")) for cells in columns)
    return sum(longest) + gap * (len(columns) - 1)


def _to_html(grid: Grid) -> str:
    header = "".join(f"<th>{escape(name)}</th>" for name in grid.header)
    rows = "\n".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in grid.rows)
    caption = f"<caption>{escape(grid.title)}</caption>" if grid.title else ""
    note = f'<p class="note">{escape(grid.note)}</p>' if grid.note else ""
    return (
        f'<div class="scroll"><table>{caption}<thead><tr>{header}</tr></thead>\n'
        f"<tbody>{rows}</tbody></table></div>{note}"
    )


def _cell(text: str) -> str:
    value, sign, spread = escape(text).partition(" ±")
    return (
        f'<td>{value}<span class="spread">{sign}{spread}</span></td>'
        if sign
        else f"<td>{value}</td>"
    )


def _figure(svg: str, caption: str) -> str:
    described = svg.replace("<svg ", f'<svg role="img" aria-label="{escape(caption)}" ', 1)
    return f"<figure>{described}<figcaption>{escape(caption)}</figcaption></figure>"

"""The report of a series: one HTML page, its tables in Markdown, its numbers as JSON."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path
from typing import Any

from dropdrift.training.comparison import UNDEFINED, Estimate, Grid
from dropdrift.training.end_labels import OUTSIDE
from dropdrift.training.experiments.series import BEST, Point, Series
from dropdrift.training.experiments.series_plots import (
    gain_figure,
    interval_panels,
    values_figure,
)
from dropdrift.training.experiments.statistics import LEVEL
from dropdrift.training.experiments.tables import to_markdown
from dropdrift.training.figures import to_svg
from dropdrift.training.page import provenance_details, to_figure, to_html, to_page
from dropdrift.training.provenance import write_result, write_whole

KIND = "series"
TABLES, NUMBERS = ".md", ".json"  # beside the page


def write_series(series: Series, plotted: Sequence[str], origin: Any, path: Path) -> None:
    """Write the page, and its tables and numbers beside it.

    Args:
        series: of experiments.
        plotted: rows whose own values are plotted.
        origin: see ``training.provenance``.
        path: of the page, which ends in ``.html``.
    """
    title = f"{series.title}, by missing rate"
    tables = [f"# {title}\n", *map(to_markdown, (*series_grids(series), _experiments(series)))]
    tables += [f"- {point.name}: `{point.command}`" for point in series.points]
    write_result(path.with_suffix(NUMBERS), _numbers(series, origin))
    write_whole(path.with_suffix(TABLES), "\n".join([*tables, ""]))
    write_whole(path, to_page(title, _page(title, series, plotted, origin)))


def series_grids(series: Series) -> Iterator[Grid]:
    """Rows by missing rate: differences to the base, and values."""
    rates = tuple(point.rate for point in series.points)
    header = ("Variant", *rates)
    if series.compared:
        yield Grid(
            f"{series.metric_title} by missing rate, difference to {series.base}",
            header,
            tuple((name, *(_gain(p, name) for p in series.points)) for name in series.compared),
            f"Paired by seed: mean and {LEVEL:.0%} interval (Student's t) over seeds.",
        )
    values = [(name, *(_value(p, name) for p in series.points)) for name in series.rows]
    if series.knows_best:
        values.insert(0, (BEST, *(Estimate((p.best,)).text(".4f") for p in series.points)))
    yield Grid(
        f"{series.metric_title} by missing rate",
        header,
        tuple(values),
        "Mean ±standard deviation over seeds."
        + f" {BEST}: of the true probability of each row." * series.knows_best,
    )


def _experiments(series: Series) -> Grid:
    return Grid(
        "Experiments",
        ("Experiment", "Data", "Missing rate"),
        tuple((p.name, p.data, p.rate) for p in series.points),
        "Missing rate: mean over the fields of the share of training rows in which one is missing.",
    )


def _page(title: str, series: Series, plotted: Sequence[str], origin: Any) -> Iterator[str]:
    yield f"<h1>{escape(title)}</h1>"
    yield '<div class="beside">'
    gain = gain_figure(series)
    if gain:
        text = f"{series.metric_title} less that of {series.base}, of the same seed"
        yield to_figure(to_svg(gain), f"{text}: lines are means, points seeds. {OUTSIDE}")
    text = f"{series.metric_title} itself: lines are means, points seeds."
    yield to_figure(to_svg(values_figure(series, plotted)), text)
    yield "</div>"
    yield from map(to_html, series_grids(series))
    panels = interval_panels(series)
    if panels:
        yield "<h2>Each variant</h2>"
        text = (
            f"{series.metric_title} less that of {series.base}: a point is a seed, the line their "
        )
        bar = (
            f"mean, the bar the {LEVEL:.0%} interval over seeds, grey the other variants. {OUTSIDE}"
        )
        yield to_figure(to_svg(panels), text + bar)
    yield "<h2>What was run</h2>"
    yield to_html(_experiments(series))
    for point in series.points:
        yield provenance_details(f"{point.name}: {point.command}", point.provenance)
    yield provenance_details("This page", origin)


def _gain(point: Point, name: str) -> str:
    found = point.gains.get(name)
    if found is None or not found.seeds.values:
        return UNDEFINED
    return f"{found.seeds.mean:+.4f} {found.by_seed.text()}".rstrip()


def _value(point: Point, name: str) -> str:
    return point.values[name].text(".4f") if name in point.values else UNDEFINED


def _numbers(series: Series, origin: Any) -> dict[str, Any]:
    return {
        "kind": KIND,
        "title": series.title,
        "base": series.base,
        "metric": series.metric,
        "level": LEVEL,
        "points": [_point(point) for point in series.points],
        "provenance": origin,
    }


def _point(point: Point) -> dict[str, Any]:
    rows = {
        name: {
            "values": found.values,
            "mean": found.mean,
            "difference": point.gains.get(name),
        }
        for name, found in point.values.items()
    }
    return {
        "experiment": point.name,
        "data": point.data,
        "missing_rate": point.missing_rate,
        "bayes_optimal_auc": point.best,
        "rows": rows,
        "provenance": point.provenance,
    }

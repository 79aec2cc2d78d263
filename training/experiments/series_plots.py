"""The figures of a series: what is measured against the missing rate of the data."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from dropdrift.training.end_labels import HEIGHT, LineEnd, draw_line, gain_limits, label_ends
from dropdrift.training.experiments.plots import WIDTH
from dropdrift.training.experiments.series import BEST, Series
from dropdrift.training.figures import GREY, STYLE, colour

COLUMNS = 3
TITLE_SIZE = 8.5
TITLE_LETTERS = 22
RATE = "Missing rate of the data, %"
DASHES = (0, (4, 3))


def gain_figure(series: Series) -> Figure | None:
    """Each row's gain over the base: lines are means, faint points seeds; None without any."""
    if not series.compared:
        return None
    with mpl.rc_context(STYLE):
        figure, axes = _lines(len(series.compared) + 1)
        axes.axhline(0, color=GREY, linewidth=1, linestyle=DASHES, zorder=1)
        rates = _rates(series)
        ends = [LineEnd(series.base, rates[-1], 0, None)]
        for name in series.compared:
            index = series.rows.index(name)
            ends += draw_line(axes, rates, series.gains(name), name, index)
        axes.set_ylim(_limits(series))
        axes.set_ylabel(f"{series.metric_title}, difference to {series.base}")
        label_ends(axes, ends)
    return figure


def values_figure(series: Series, names: Sequence[str]) -> Figure:
    """The rows' own values, beside the best there can be where that is known."""
    with mpl.rc_context(STYLE):
        figure, axes = _lines(len(names) + 1)
        ends: list[LineEnd] = []
        best = [(100 * p.missing_rate, p.best) for p in series.points if not math.isnan(p.best)]
        if best:
            axes.plot(*zip(*best, strict=True), color=GREY, linestyle=DASHES)
            ends.append(LineEnd(BEST, *best[-1], None))
        for name in names:
            index = series.rows.index(name)
            ends += draw_line(axes, _rates(series), series.values(name), name, index)
        axes.set_ylabel(series.metric_title)
        label_ends(axes, ends)
    return figure


def interval_panels(series: Series) -> Figure | None:
    """A panel for each row: its gain with the interval over seeds, the others' in grey."""
    if not series.compared:
        return None
    rows = math.ceil(len(series.compared) / COLUMNS)
    columns = min(len(series.compared), COLUMNS)
    with mpl.rc_context(STYLE):
        size = (0.4 + WIDTH * columns / COLUMNS, 0.5 + 1.7 * rows)
        figure = Figure(figsize=size, layout="constrained")
        panels = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
        for axes, name in zip(panels.flat, series.compared, strict=False):
            for other in series.compared:
                _draw_means(axes, series, other, "#D0D0D0", 0.8)
            axes.axhline(0, color=GREY, linewidth=1, linestyle=DASHES, zorder=1)
            _draw_gain(axes, series, name)
            axes.set_ylim(_limits(series))
            lowest = min(gain.mean for gain in series.gains(name) if gain.values)
            if lowest < axes.get_ylim()[0]:
                text = f"\N{DOWNWARDS ARROW} {lowest:+.3f}"
                axes.text(0.05, 0.05, text, transform=axes.transAxes, size=TITLE_SIZE)
            axes.set_title(textwrap.fill(name, TITLE_LETTERS), size=TITLE_SIZE, loc="left")
            axes.locator_params(nbins=4)
        for axes in panels.flat[len(series.compared) :]:
            axes.set_axis_off()
        figure.supxlabel(RATE, size=mpl.rcParams["font.size"])
        figure.supylabel(
            f"{series.metric_title}, difference to {series.base}", size=mpl.rcParams["font.size"]
        )
    return figure


def _lines(names: int) -> tuple[Figure, Any]:
    figure = Figure(figsize=(WIDTH, 0.8 + max(2.8, HEIGHT * names)), layout="constrained")
    axes = figure.subplots()
    axes.set_xlabel(RATE)
    return figure, axes


def _rates(series: Series) -> list[float]:
    return [100 * point.missing_rate for point in series.points]


def _limits(series: Series) -> tuple[float, float]:
    return gain_limits([series.gains(name) for name in series.compared])


def _draw_means(axes: Any, series: Series, name: str, own: str, width: float) -> None:
    means = [gain.mean for gain in series.gains(name)]
    axes.plot(_rates(series), means, color=own, linewidth=width)


def _draw_gain(axes: Any, series: Series, name: str) -> None:
    own = colour(series.rows.index(name))
    for point in series.points:
        if name in point.gains:
            rate, gain = 100 * point.missing_rate, point.gains[name]
            interval = (gain.by_seed.low, gain.by_seed.high)
            axes.plot((rate, rate), interval, color=own, linewidth=5, alpha=0.25)
            seeds = gain.seeds.values
            axes.plot([rate] * len(seeds), seeds, ".", color=own, markersize=4, alpha=0.7, mew=0)
    _draw_means(axes, series, name, own, 1.6)

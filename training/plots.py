"""The figures of the robustness report, as SVG.

A colour and a marker for each model, safe for the colour-blind (Okabe and Ito, 2008); a point for
each seed, a line or a dash for their mean.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from dropdrift.training.comparison import (
    Drop,
    Estimate,
    Models,
    curves_of,
    drops_of,
    estimate,
    measure,
)

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
LINES = ("-", "--", ":", "-.")
GREY = "#767676"
BLOCK_WIDTH = 0.85  # inches
SVG_METADATA = ("Creator", "Date", "Format", "Type")
STYLE = {
    "font.size": 9.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": GREY,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#E4E4E4",
    "grid.linewidth": 0.7,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "xtick.labelcolor": "black",
    "ytick.labelcolor": "black",
    "legend.frameon": False,
    "lines.linewidth": 1.6,
    "lines.markersize": 5,
    # Names inside the SVG come from this and not from chance, so that equal results make equal
    # files.
    "svg.hashsalt": "dropdrift",
}


def robustness_figure(models: Models, label: str) -> Figure | None:
    """AUC and UAUC (rows of panels) with a share of the fields and with blocks of them dropped.

    None where nothing was dropped.
    """
    drops = drops_of(models, label)
    shares = [drop for drop in drops if drop[0] == "share"]
    blocks = [drop for drop in drops if drop[0] != "share"]
    if len(drops) == 1:
        return None
    metrics = curves_of(models, label)
    widths = [5.2] * (len(shares) > 1) + [0.4 + BLOCK_WIDTH * len(blocks)] * bool(blocks)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(sum(widths) + 0.8, 2.7 * len(metrics) + 0.6), layout="constrained")
        axes = figure.subplots(
            len(metrics),
            len(widths),
            sharey="row",
            sharex="col",
            squeeze=False,
            width_ratios=widths,
        )
        for row, (title, metric) in zip(axes, metrics, strict=True):
            row[0].set_ylabel(title)
            if len(shares) > 1:
                _draw_shares(row[0], models, label, metric, shares)
            if blocks:
                _draw_blocks(row[-1], models, label, metric, blocks)
        if len(shares) > 1:
            axes[-1][0].set_xlabel("Share of fields dropped, %")
        if blocks:
            axes[-1][-1].set_xlabel("Fields dropped as a block")
        _add_legend(figure, axes[0][0])
    return figure


def calibration_figure(models: Models, label: str) -> Figure | None:
    """Observed share of positives against the mean prediction; None without calibration tables."""
    tables = {
        name: [r.tasks[label].calibration_table for r in seeds if label in r.tasks]
        for name, seeds in models.items()
    }
    points = [bucket for seeds in tables.values() for table in seeds for bucket in table]
    if not points:
        return None
    largest = 1.05 * max(max(bucket.prediction, bucket.label) for bucket in points)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(4.2, 4.2), layout="constrained")
        axes = figure.subplots()
        axes.plot([0, largest], [0, largest], color=GREY, linewidth=1, linestyle=(0, (4, 3)))
        axes.annotate(
            "calibrated",
            (0.93 * largest, 0.93 * largest),
            xytext=(-3, 3),
            textcoords="offset points",
            color=GREY,
            rotation=45,
            rotation_mode="anchor",
            ha="right",
        )
        for index, (name, seeds) in enumerate(tables.items()):
            for order, table in enumerate(seeds):
                axes.plot(
                    [bucket.prediction for bucket in table],
                    [bucket.label for bucket in table],
                    label=name if order == 0 else None,
                    color=_colour(index),
                    marker=MARKERS[index % len(MARKERS)],
                    linestyle=_line(index),
                    linewidth=1,
                    markersize=3.5,
                    alpha=0.8,
                )
        axes.set(xlim=(0, largest), ylim=(0, largest), aspect="equal")
        axes.set(xlabel="Mean prediction", ylabel="Observed share of positives")
        _add_legend(figure, axes)
    return figure


def to_svg(figure: Figure) -> str:
    """The figure as an ``<svg>`` element; equal figures give equal text."""
    stream = io.StringIO()
    with mpl.rc_context(STYLE):
        figure.savefig(stream, format="svg", metadata=dict.fromkeys(SVG_METADATA))
    text = stream.getvalue()
    return text[text.index("<svg") :]


def _draw_shares(axes: Any, models: Models, label: str, metric: str, shares: list[Drop]) -> None:
    positions = [100 * float(value) for _, value in shares]
    for index, (name, seeds) in enumerate(models.items()):
        estimates = [estimate(seeds, measure(label, metric, drop)) for drop in shares]
        _draw_seeds(axes, positions, estimates, name, index)
        means = [e.mean for e in estimates]
        axes.plot(positions, means, color=_colour(index), linestyle=_line(index))


def _draw_blocks(axes: Any, models: Models, label: str, metric: str, blocks: list[Drop]) -> None:
    """Models beside each other within a block, a dash at the mean."""
    step = 0.6 / max(len(models) - 1, 2)
    dash = 0.8 * step * 72 * BLOCK_WIDTH  # in points
    for index, (name, seeds) in enumerate(models.items()):
        offset = step * (index - (len(models) - 1) / 2)
        positions = [position + offset for position in range(len(blocks))]
        estimates = [estimate(seeds, measure(label, metric, drop)) for drop in blocks]
        _draw_seeds(axes, positions, estimates, name, index)
        means = [e.mean for e in estimates]
        axes.plot(positions, means, "_", color=_colour(index), markersize=dash, mew=1.6)
    axes.set_xticks(range(len(blocks)), [str(value) for _, value in blocks])
    axes.set_xlim(-0.5, len(blocks) - 0.5)
    axes.grid(visible=False, axis="x")


def _draw_seeds(
    axes: Any, positions: Sequence[float], estimates: Sequence[Estimate], name: str, index: int
) -> None:
    points = [(x, y) for x, e in zip(positions, estimates, strict=True) for y in e.values]
    x, y = zip(*points, strict=True) if points else ((), ())
    marker = MARKERS[index % len(MARKERS)]
    axes.plot(x, y, marker, color=_colour(index), label=name, markersize=4, alpha=0.65, mew=0)


def _colour(index: int) -> str:
    return COLOURS[index % len(COLOURS)]


def _line(index: int) -> str:
    """Another line once the colours are used up."""
    return LINES[index // len(COLOURS) % len(LINES)]


def _add_legend(figure: Figure, axes: Any) -> None:
    handles, names = axes.get_legend_handles_labels()
    figure.legend(
        handles, names, loc="outside upper left", ncols=min(len(names), 4), markerscale=1.4
    )

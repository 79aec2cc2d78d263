"""The figures of the robustness report.

A point for each seed, a line or a dash for their mean.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
from dropdrift.training.figures import GREY, STYLE, add_legend, colour, line_style, marker
from dropdrift.training.metrics import CalibrationBucket

Table = tuple[CalibrationBucket, ...]

BLOCK_WIDTH = 0.85  # inches


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
        add_legend(figure, axes[0][0])
    return figure


def calibration_figure(models: Models, label: str) -> Figure | None:
    """Observed share of positives against the mean prediction; None without calibration tables."""
    tables = calibration_tables(models, label)
    if not tables:
        return None
    largest = largest_share(tables)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(4.2, 4.2), layout="constrained")
        axes = figure.subplots()
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
        for name, seeds in tables.items():
            draw_calibration(axes, seeds, list(models).index(name), name)
        frame_calibration(axes, largest)
        axes.set(xlabel="Mean prediction", ylabel="Observed share of positives")
        add_legend(figure, axes)
    return figure


def calibration_tables(models: Models, label: str) -> dict[str, list[Table]]:
    """The calibration tables of each model's seeds; a model without any is not there."""
    tables = {
        name: [r.tasks[label].calibration_table for r in seeds if label in r.tasks]
        for name, seeds in models.items()
    }
    return {name: found for name, found in tables.items() if any(found)}


def largest_share(tables: Mapping[str, list[Table]]) -> float:
    """Where the axes of a calibration end."""
    buckets = (bucket for found in tables.values() for table in found for bucket in table)
    return 1.05 * max(max(bucket.prediction, bucket.label) for bucket in buckets)


def draw_calibration(
    axes: Any, tables: Sequence[Table], index: int, name: str = "", markersize: float = 3.5
) -> None:
    """A line for each seed of the model ``index``; the first has its name."""
    for order, table in enumerate(tables):
        axes.plot(
            [bucket.prediction for bucket in table],
            [bucket.label for bucket in table],
            label=name if order == 0 else None,
            color=colour(index),
            marker=marker(index),
            linestyle=line_style(index),
            linewidth=1,
            markersize=markersize,
            alpha=0.8,
        )


def frame_calibration(axes: Any, largest: float) -> None:
    """The diagonal of a calibrated model, and equal axes from 0."""
    axes.plot([0, largest], [0, largest], color=GREY, linewidth=1, linestyle=(0, (4, 3)), zorder=1)
    axes.set(xlim=(0, largest), ylim=(0, largest), aspect="equal")


def _draw_shares(axes: Any, models: Models, label: str, metric: str, shares: list[Drop]) -> None:
    positions = [100 * float(value) for _, value in shares]
    for index, (name, seeds) in enumerate(models.items()):
        estimates = [estimate(seeds, measure(label, metric, drop)) for drop in shares]
        _draw_seeds(axes, positions, estimates, name, index)
        means = [e.mean for e in estimates]
        axes.plot(positions, means, color=colour(index), linestyle=line_style(index))


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
        axes.plot(positions, means, "_", color=colour(index), markersize=dash, mew=1.6)
    axes.set_xticks(range(len(blocks)), [str(value) for _, value in blocks])
    axes.set_xlim(-0.5, len(blocks) - 0.5)
    axes.grid(visible=False, axis="x")


def _draw_seeds(
    axes: Any, positions: Sequence[float], estimates: Sequence[Estimate], name: str, index: int
) -> None:
    points = [(x, y) for x, e in zip(positions, estimates, strict=True) for y in e.values]
    x, y = zip(*points, strict=True) if points else ((), ())
    axes.plot(x, y, marker(index), color=colour(index), label=name, markersize=4, alpha=0.65, mew=0)

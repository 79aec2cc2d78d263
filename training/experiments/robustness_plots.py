"""The figures of ranking models with fields dropped, for up to a dozen variants.

Differences to the base, since those are small beside what every model loses. Each figure is narrow
enough to be read on a telephone; a page sets them beside each other where it can.
"""

from __future__ import annotations

import math
import textwrap
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from dropdrift.training.comparison import (
    Drop,
    Models,
    drop_text,
    drops_of,
    estimate,
    measure,
    metric_title,
    paired,
)
from dropdrift.training.end_labels import HEIGHT, LineEnd, draw_line, gain_limits, label_ends
from dropdrift.training.experiments.plots import ROW_HEIGHT, WIDTH
from dropdrift.training.experiments.robustness import blocks_of, others_than
from dropdrift.training.figures import GREY, STYLE, colour, draw_row, name_rows
from dropdrift.training.plots import (
    calibration_tables,
    draw_calibration,
    frame_calibration,
    largest_share,
)

COLUMNS = 2  # panels of blocks beside each other
CALIBRATION_COLUMNS = 3
TITLE_SIZE = 8.5
TITLE_LETTERS = 22


def gain_by_share_figure(models: Models, base: str, label: str, metric: str) -> Figure | None:
    """What each variant gains over ``base`` by the share of the fields that is dropped.

    Lines are means over seeds, faint points seeds; under each share is the base's own value. None
    where no share was dropped or nothing is compared.

    Args:
        models: results by variant; its order gives the colours.
        base: the variant that the others are compared with.
        label: the task.
        metric: ``auc`` or ``uauc``.
    """
    shares = [drop for drop in drops_of(models, label) if drop[0] == "share"]
    others = others_than(base, models)
    if len(shares) < 2 or not others:
        return None
    title = metric_title(metric)
    positions = [100 * float(value) for _, value in shares]
    with mpl.rc_context(STYLE):
        height = 0.9 + max(2.8, HEIGHT * (len(others) + 1))
        figure = Figure(figsize=(WIDTH, height), layout="constrained")
        axes = figure.subplots()
        axes.axhline(0, color=GREY, linewidth=1, linestyle=(0, (4, 3)), zorder=1)
        ends = [LineEnd(base, positions[-1], 0, None)]
        gains = {
            name: [paired(seeds, models[base], measure(label, metric, d)) for d in shares]
            for name, seeds in others.items()
        }
        for name, own in gains.items():
            ends += draw_line(axes, positions, own, name, list(models).index(name))
        axes.set_ylim(gain_limits(list(gains.values())))
        of_base = [estimate(models[base], measure(label, metric, d)).mean for d in shares]
        labels = [f"{x:.0f}\n{_short(y)}" for x, y in zip(positions, of_base, strict=True)]
        # The first, and every other from the last on: there is no room for more.
        ticks = [0, *range(len(shares) - 1, 1, -2)]
        axes.set_xticks([positions[i] for i in ticks], [labels[i] for i in ticks])
        axes.set_xticks(positions, minor=True)
        axes.set_xlabel(f"Share of fields dropped, %; {title} of {base}")
        axes.set_ylabel(f"{title}, gain over {base}")
        axes.set_xlim(-2, positions[-1] + 2)
        label_ends(axes, ends)
    return figure


def gain_by_block_figure(models: Models, base: str, label: str, metric: str) -> Figure | None:
    """What each variant gains over ``base`` with a side's fields, or all identifiers, dropped.

    A panel for each block with a scale of its own, a row for each variant, a point for each seed, a
    dash for their mean. None where no block was dropped or nothing is compared.

    Args: as of :func:`gain_by_share_figure`.
    """
    blocks, others = blocks_of(models, label), others_than(base, models)
    if not blocks or not others:
        return None
    title = metric_title(metric)
    rows = math.ceil(len(blocks) / COLUMNS)
    with mpl.rc_context(STYLE):
        height = 0.4 + rows * (0.8 + 0.8 * ROW_HEIGHT * len(others))
        figure = Figure(figsize=(WIDTH, height), layout="constrained")
        panels = figure.subplots(rows, COLUMNS, squeeze=False, sharey=True)
        for axes, drop in zip(panels.flat, blocks, strict=False):
            name_rows(axes, list(others))
            _draw_block(axes, models, base, label, metric, drop)
        for axes in panels.flat[len(blocks) :]:
            axes.set_axis_off()
        figure.supxlabel(f"{title}, gain over {base}", size=mpl.rcParams["font.size"])
    return figure


def calibration_panels(models: Models, label: str) -> Figure | None:
    """The calibration of each variant in a panel of its own, a line for each seed.

    The number above a panel is the mean prediction over the share of positives. None without
    calibration tables.
    """
    tables = calibration_tables(models, label)
    if not tables:
        return None
    largest = largest_share(tables)
    rows = math.ceil(len(tables) / CALIBRATION_COLUMNS)
    columns = min(len(tables), CALIBRATION_COLUMNS)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH * columns / 3, 0.5 + 1.85 * rows), layout="constrained")
        panels = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
        for axes, (name, found) in zip(panels.flat, tables.items(), strict=False):
            draw_calibration(axes, found, list(models).index(name), markersize=0)
            frame_calibration(axes, largest)
            ratio = estimate(models[name], measure(label, "calibration")).text(".3f")
            shown = f"{textwrap.fill(name, TITLE_LETTERS)}\n{ratio}"
            axes.set_title(shown, size=TITLE_SIZE, loc="left")
            axes.locator_params(nbins=3)
        for axes in panels.flat[len(tables) :]:
            axes.set_axis_off()
        figure.supxlabel("Mean prediction", size=mpl.rcParams["font.size"])
        figure.supylabel("Observed share of positives", size=mpl.rcParams["font.size"])
    return figure


def _draw_block(axes: Any, models: Models, base: str, label: str, metric: str, drop: Drop) -> None:
    read = measure(label, metric, drop)
    others = others_than(base, models)
    gains = {name: paired(seeds, models[base], read) for name, seeds in others.items()}
    limits = gain_limits([[gain] for gain in gains.values()])
    axes.set_xlim(limits)
    for row, (name, gain) in enumerate(gains.items()):
        draw_row(axes, row, gain.values, colour(list(models).index(name)))
        if gain.mean < limits[0]:
            text = f"\N{LEFTWARDS ARROW} {gain.mean:+.3f}"
            where = axes.get_yaxis_transform()
            axes.text(0.03, row, text, transform=where, size=TITLE_SIZE, va="center")
    axes.axvline(0, color=GREY, linewidth=1, linestyle=(0, (4, 3)), zorder=1)
    axes.xaxis.set_major_locator(MaxNLocator(2))
    of_base = estimate(models[base], read).text(".4f")
    axes.set_title(f"{drop_text(drop)}\n{base} {of_base}", size=TITLE_SIZE, loc="left")


def _short(value: float) -> str:
    """``.731`` of 0.7312."""
    return f"{value:.3f}".removeprefix("0")

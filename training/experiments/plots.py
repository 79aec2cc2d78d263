"""The figures of an experiment: a point for each seed, a dash for their mean.

Each is narrow enough to be read on a telephone; a page sets them beside each other where it can.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from itertools import accumulate
from statistics import fmean, median
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from dropdrift.training.experiments.summary import Outcome, Summary
from dropdrift.training.figures import (
    GREY,
    LINES,
    STYLE,
    add_legend,
    colour,
    draw_row,
    line_style,
    marker,
    name_rows,
)

WIDTH = 4.9  # inches
ROW_HEIGHT = 0.3
TEXT_SIZE = 8.5
# A row is left out of the axis where its mean is so many times as far off as the median row's.
FAR = 8


def metric_figure(summary: Summary, metric: str) -> Figure:
    """The values of one metric, a row for each variant; published figures as open rings."""
    names = list(summary.rows)
    with mpl.rc_context(STYLE):
        figure, axes = _rows_of(names)
        for index, name in enumerate(names):
            estimate = summary.estimate(name, metric)
            draw_row(axes, index, estimate.values, _colour(summary, name))
            published = summary.plan.published.get(name, {}).get(metric)
            if published is not None:
                axes.plot(
                    published, index, "o", markersize=8, color=GREY, fillstyle="none", zorder=4
                )
        if summary.plan.base in names:
            mean = summary.estimate(summary.plan.base, metric).mean
            axes.axvline(mean, color=GREY, linewidth=1, linestyle=(0, (4, 3)), zorder=1)
            drawn = [summary.estimate(name, metric).values for name in names]
            _leave_room(axes, drawn, drawn, mean, ".4f")
        axes.set_xlabel(summary.titles[metric])
    return figure


def difference_figure(summary: Summary, metric: str) -> Figure | None:
    """Differences to the base by seed, with the interval over users as a bar; None without any."""
    compared = {
        row: difference
        for (row, name), difference in summary.differences.items()
        if name == metric and difference.seeds.values
    }
    if not compared:
        return None
    with mpl.rc_context(STYLE):
        figure, axes = _rows_of(list(compared))
        seeds: list[Sequence[float]] = []
        drawn: list[Sequence[float]] = []
        for index, (name, difference) in enumerate(compared.items()):
            own = _colour(summary, name)
            bounds = (difference.by_user.low, difference.by_user.high)
            axes.plot(bounds, (index, index), color=own, linewidth=7, alpha=0.22, zorder=2)
            draw_row(axes, index, difference.seeds.values, own)
            seeds.append(difference.seeds.values)
            drawn.append((*difference.seeds.values, *bounds))
        _leave_room(axes, seeds, drawn, 0.0, "+.4f")
        axes.axvline(0, color=GREY, linewidth=1, linestyle=(0, (4, 3)), zorder=1)
        axes.set_xlabel(f"{summary.titles[metric]}, difference to {summary.plan.base}")
    return figure


def curves_figure(summary: Summary) -> Figure | None:
    """The validation metric over the steps: seeds thin, their mean thick; None without any."""
    rows = {name: outcomes for name, outcomes in summary.rows.items() if _has_curve(outcomes)}
    if not rows:
        return None
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(6.4, 3.6 + 0.22 * ((len(rows) + 1) // 2)), layout="constrained")
        axes = figure.subplots()
        for name, outcomes in rows.items():
            index = list(summary.rows).index(name)
            for outcome in outcomes:
                if outcome.curve:
                    axes.plot(
                        *zip(*outcome.curve, strict=True),
                        color=colour(index),
                        linestyle=line_style(index),
                        linewidth=0.7,
                        alpha=0.45,
                    )
            steps, means = _mean_curve(outcomes)
            axes.plot(
                steps,
                means,
                label=name,
                color=colour(index),
                linestyle=line_style(index),
                marker=marker(index),
                markevery=max(1, len(steps) // 6),
                markersize=4,
            )
        axes.set(xlabel="Step", ylabel=f"{summary.curve_title}, validation part")
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        handles, names = axes.get_legend_handles_labels()
        figure.legend(handles, names, loc="outside upper left", ncols=2)
    return figure


def schedule_figure(summary: Summary) -> Figure | None:
    """The noise beta of each step, and how much of z_0 is left in z_s; None without any."""
    if not summary.schedules:
        return None
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(6.4, 5), layout="constrained")
        noise, left = figure.subplots(2, 1, sharex=True)
        for order, (name, schedule) in enumerate(summary.schedules.items()):
            style = {"color": _colour(summary, name), "linestyle": LINES[order % len(LINES)]}
            steps = range(1, len(schedule) + 1)
            remaining = accumulate((math.sqrt(1 - beta) for beta in schedule), operator.mul)
            noise.plot(steps, schedule, label=name, **style)
            left.plot(steps, list(remaining), **style)
        noise.set_ylabel("Noise $\\beta_s$")
        left.set(xlabel="Diffusion step s", ylabel="Share of $z_0$ in $z_s$")
        add_legend(figure, noise)
    return figure


def similarity_figure(summary: Summary) -> Figure | None:
    """Cosine similarity of z_0 and its estimate over the reverse process; None without any.

    Thick with markers is the mean over seeds of the median over users, thin that of the quartiles.
    """
    found = {
        name: [outcome.similarity for outcome in outcomes if outcome.similarity]
        for name, outcomes in summary.rows.items()
    }
    if not any(found.values()):
        return None
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(6.4, 3.8), layout="constrained")
        axes = figure.subplots()
        for index, (name, seeds) in enumerate(found.items()):
            if not seeds:
                continue
            low, median, high = (
                [fmean(values) for values in zip(*rows, strict=True)]
                for rows in zip(*((s.low, s.median, s.high) for s in seeds), strict=True)
            )
            done = range(1, len(median) + 1)
            own: dict[str, Any] = {"color": colour(index), "linestyle": line_style(index)}
            for quartile in (low, high):
                axes.plot(done, quartile, linewidth=0.8, alpha=0.6, **own)
            axes.plot(
                done,
                median,
                label=name,
                marker=marker(index),
                markevery=max(1, len(median) // 6),
                markersize=4,
                **own,
            )
        axes.set(xlabel="Steps of the reverse process", ylabel="Cosine similarity to the drift")
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        add_legend(figure, axes)
    return figure


def _rows_of(names: Sequence[str]) -> tuple[Figure, Any]:
    """Axes with a row for each name, the first on top."""
    figure = Figure(figsize=(WIDTH, 0.75 + ROW_HEIGHT * len(names)), layout="constrained")
    axes = figure.subplots()
    name_rows(axes, names)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    return figure, axes


def _leave_room(
    axes: Any,
    seeds: Sequence[Sequence[float]],
    drawn: Sequence[Sequence[float]],
    centre: float,
    form: str,
) -> None:
    """Leave rows out of the axis that would leave no room for the others, and write their means.

    Args:
        axes: with a row for each entry of ``seeds``.
        seeds: the values of each row.
        drawn: all that is drawn of each row.
        centre: where the base is.
        form: of the means.
    """
    means = [fmean(values) if values else centre for values in seeds]
    usual = median(abs(mean - centre) for mean in means)
    far = [abs(mean - centre) > FAR * usual for mean in means]
    if not usual or not any(far):
        return
    near = [centre]
    for values, is_far in zip(drawn, far, strict=True):
        if not is_far:
            near += [value for value in values if not math.isnan(value)]
    margin = 0.06 * (max(near) - min(near))
    low, high = min(near) - margin, max(near) + margin
    axes.set_xlim(low, high)
    for row, mean in enumerate(means):
        if mean < low:
            _write(axes, row, 0.02, "left", f"\N{LEFTWARDS ARROW} {mean:{form}}")
        elif mean > high:
            _write(axes, row, 0.98, "right", f"{mean:{form}} \N{RIGHTWARDS ARROW}")


def _write(axes: Any, row: int, place: float, side: str, text: str) -> None:
    """Text in a row, at a share of the axes' width."""
    where = axes.get_yaxis_transform()
    axes.text(place, row, text, transform=where, size=TEXT_SIZE, va="center", ha=side)


def _colour(summary: Summary, name: str) -> str:
    """The variant's own, the same in all figures; one that was not run has a free one."""
    names = [*summary.rows, *(row for row in summary.schedules if row not in summary.rows)]
    return colour(names.index(name))


def _has_curve(outcomes: Sequence[Outcome]) -> bool:
    return any(outcome.curve for outcome in outcomes)


def _mean_curve(outcomes: Sequence[Outcome]) -> tuple[list[int], list[float]]:
    """Over the steps that all seeds have reached; a seed that failed does not count."""
    done = [o for o in outcomes if o.curve and not o.failure] or [o for o in outcomes if o.curve]
    curves = [dict(outcome.curve) for outcome in done]
    steps = sorted(set.intersection(*(set(curve) for curve in curves)))
    return steps, [sum(curve[step] for curve in curves) / len(curves) for step in steps]

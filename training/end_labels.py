"""Gains over a base as lines, whose names stand at the right ends and do not cover each other."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dropdrift.training.comparison import Estimate
from dropdrift.training.figures import GREY, colour, line_style

SIZE = 8.0  # of the letters, in points
HEIGHT = 1.3 * SIZE / 72  # that a name takes, in inches

# For the captions of figures that leave models out, see gain_limits.
OUTSIDE = "An arrow stands for a mean outside the axes."
# From a line's end to its name, in widths of the axes: where the stroke is level, and the name.
_LEVEL, _STROKE, _NAME = 1.05, 1.12, 1.14


@dataclass(frozen=True)
class LineEnd:
    """The last point of a line.

    Attributes:
        name: of the line.
        x: where it ends, in the data's unit.
        y: where it ends, in the data's unit.
        index: of its colour and style; None for a grey dashed line.
    """

    name: str
    x: float
    y: float
    index: int | None


def draw_line(
    axes: Any, positions: Sequence[float], estimates: Sequence[Estimate], name: str, index: int
) -> list[LineEnd]:
    """The line ``index`` through the means, and each seed as a faint point.

    Returns its end; none where there are no values.
    """
    found = [(x, e) for x, e in zip(positions, estimates, strict=True) if e.values]
    if not found:
        return []
    seeds = [(x, value) for x, e in found for value in e.values]
    means = [(x, e.mean) for x, e in found]
    own = colour(index)
    axes.plot(*zip(*seeds, strict=True), ".", color=own, markersize=4, alpha=0.3, mew=0)
    axes.plot(*zip(*means, strict=True), color=own, linestyle=line_style(index))
    return [LineEnd(name, *means[-1], index)]


def gain_limits(gains: Sequence[Sequence[Estimate]]) -> tuple[float, float]:
    """Limits of an axis for the gains of several models, at each position.

    A model that has gone wrong would leave no room for the differences between the others: one that
    loses more than twice the greatest gain, and four times what is usual, does not count. Usual is
    the median of the models' largest differences.
    """
    means = [[e.mean for e in own if e.values] or [0.0] for own in gains]
    usual = statistics.median(max(map(abs, own)) for own in means)
    lowest = -max(2 * max(map(max, means)), 4 * usual)
    sound = [own for own, found in zip(gains, means, strict=True) if min(found) >= lowest]
    values = [0.0, *(value for own in sound for e in own for value in e.values)]
    margin = 0.05 * (max(values) - min(values)) or 1e-4
    return min(values) - margin, max(values) + margin


def label_ends(axes: Any, ends: Sequence[LineEnd]) -> None:
    """Write the lines' names to the right of ``axes``, each with a stroke of its line.

    A line that ends below the axes has its last value beside its name. The axes' limits must be
    final; they are at least ``len(ends) * HEIGHT`` high.
    """
    axes.figure.draw_without_rendering()  # the height is the layout's
    height = axes.get_window_extent().height / axes.figure.dpi
    to_axes = axes.transData + axes.transAxes.inverted()
    points = [to_axes.transform((end.x, end.y)) for end in ends]
    names = [
        end.name if y >= 0 else f"{end.name} \N{DOWNWARDS ARROW} {end.y:+.3f}"
        for end, (_, y) in zip(ends, points, strict=True)
    ]
    points = [(x, max(y, 0.0)) for x, y in points]
    levels = spread_apart([y for _, y in points], HEIGHT / height, 0.0, 1.0)
    for end, name, (x, y), level in zip(ends, names, points, levels, strict=True):
        own: dict[str, Any] = {"color": GREY, "linestyle": (0, (4, 3))}
        if end.index is not None:
            own = {"color": colour(end.index), "linestyle": line_style(end.index)}
        stroke = {"transform": axes.transAxes, "clip_on": False, **own}
        axes.plot((x, _LEVEL), (y, level), linewidth=0.6, **stroke)
        axes.plot((_LEVEL, _STROKE), (level, level), **stroke)
        axes.text(_NAME, level, name, transform=axes.transAxes, size=SIZE, va="center")


def spread_apart(wanted: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """The positions nearest to ``wanted`` by least squares that are ``gap`` apart, in its order.

    They lie between ``low`` and ``high``, where those are far enough apart.
    """
    order = sorted(range(len(wanted)), key=lambda index: wanted[index])
    # Without the gaps the positions must only ascend: neighbours that do not are one block, at
    # their mean (isotonic regression).
    blocks: list[tuple[float, int]] = []
    for rank, index in enumerate(order):
        mean, count = wanted[index] - rank * gap, 1
        while blocks and blocks[-1][0] >= mean:
            before, many = blocks.pop()
            mean, count = (before * many + mean * count) / (many + count), many + count
        blocks.append((mean, count))
    top = high - gap * (len(wanted) - 1)
    levels = [max(low, min(mean, top)) for mean, count in blocks for _ in range(count)]
    positions = [0.0] * len(wanted)
    for rank, (index, level) in enumerate(zip(order, levels, strict=True)):
        positions[index] = level + rank * gap
    return positions

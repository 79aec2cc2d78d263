"""The pictures of a plan, rank by rank: memory against what there is, and time by part.

Colours are safe for the colour-blind, and each part has a hatch of its own besides.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from dropdrift.sharding.summary import PlanSummary, RankSummary
from dropdrift.training.figures import COLOURS, GREY, STYLE
from dropdrift.training.plans.views.grids import milliseconds, size

WIDTH = 5.8  # inches
# More ranks than these are drawn as columns of several.
COLUMNS = 256
# More columns than these touch each other.
BARS = 64
# Where the fullest rank needs less of its memory, the picture ends above what it needs.
LEAST_SHARE = 0.12
BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY, BLACK = COLOURS


@dataclass(frozen=True)
class Part:
    """One layer of a stack.

    Attributes:
        name: of the layer.
        colour: of its edge; its area is lighter.
        hatch: matplotlib's; it tells layers apart where colours do not.
        values: one for each rank.
    """

    name: str
    colour: str
    hatch: str
    values: tuple[float, ...]


def memory_parts(summary: PlanSummary) -> list[Part]:
    """Bytes of each rank's device; with what the dense part and batches take, all that is used."""
    weights, state, working = ([0] * len(summary.ranks) for _ in range(3))
    for table in summary.tables:
        for shard in table.shards:
            # A table in host memory leaves its cache on the device, with inputs and outputs.
            here = 0 if shard.spilled_bytes else 1
            weights[shard.rank] += here * shard.weight_bytes
            state[shard.rank] += here * shard.optimizer_bytes
            stored = here * (shard.weight_bytes + shard.optimizer_bytes)
            working[shard.rank] += shard.device_bytes - stored
    ranks = len(summary.ranks)
    caches = ", caches" if summary.spilled_bytes else ""
    return [
        Part("weights", BLUE, "", tuple(weights)),
        Part("optimizer state", ORANGE, "////", tuple(state)),
        Part(f"inputs, outputs{caches}", GREEN, "----", tuple(working)),
        Part("dense part", PURPLE, "\\\\\\\\", (summary.dense_bytes,) * ranks),
        Part("batches on their way", SKY, "xxxx", (summary.input_bytes,) * ranks),
    ]


def time_parts(summary: PlanSummary) -> list[Part]:
    """Estimated milliseconds of a step on each rank, one after the other."""
    parts = [
        Part("forward compute", BLUE, "", _costs(summary, "forward_compute")),
        Part("forward communication", SKY, "////", _costs(summary, "forward_communication")),
        Part("backward compute", VERMILION, "", _costs(summary, "backward_compute")),
        Part("backward communication", ORANGE, "////", _costs(summary, "backward_communication")),
        Part("prefetch", PURPLE, "----", _costs(summary, "prefetch")),
    ]
    return parts if any(parts[-1].values) else parts[:-1]


def memory_figure(summary: PlanSummary) -> Figure:
    """Memory of each rank by what takes it, below the line of what there is.

    Where tables live in host memory, a second panel shows it.
    """
    spilled = bool(summary.spilled_bytes)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 5.6 if spilled else 3.9), layout="constrained")
        panels = figure.subplots(1 + spilled, sharex=True, squeeze=False)[:, 0]
        parts = [part for part in memory_parts(summary) if any(part.values)]
        capacity, margin = float(summary.cluster.device_bytes), summary.margin_bytes
        unit = _draw_memory(panels[0], summary, parts, capacity, margin)
        panels[0].set_ylabel(f"Memory of a rank, {unit}")
        if spilled:
            values = tuple(float(rank.spilled_bytes) for rank in summary.ranks)
            part = Part("tables in host memory", VERMILION, "\\\\", values)
            unit = _draw_memory(panels[1], summary, [part], float(summary.cluster.host_bytes), 0)
            panels[1].set_ylabel(f"Host memory, {unit}")
        name_ranks(panels[-1], summary)
        _add_legend(figure, list(panels))
    return figure


def time_figure(summary: PlanSummary) -> Figure:
    """Estimated time of each rank by part, with the mean of all ranks."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 3.9), layout="constrained")
        axes = figure.subplots()
        _stack(axes, summary, time_parts(summary), 1.0)
        axes.set_ylim(0, 1.12 * summary.step_ms or 1.0)
        # Its text is in the legend: beside the line it would stand on the columns' tops.
        label = f"mean of all, {milliseconds(summary.mean_ms)} ms"
        dashes = (0, (4, 3))
        axes.axhline(summary.mean_ms, color=BLACK, linewidth=1, linestyle=dashes, label=label)
        axes.set_ylabel("Estimated ms of a step")
        name_ranks(axes, summary)
        _add_legend(figure, [axes])
    return figure


def columns(summary: PlanSummary) -> list[Sequence[RankSummary]]:
    """The ranks of each column: one, or where there are more than 256 a node's, or more."""
    each = -(-len(summary.ranks) // COLUMNS)
    if 1 < each < summary.cluster.ranks_per_node and summary.cluster.nodes > 1:
        each = summary.cluster.ranks_per_node
    return [summary.ranks[at : at + each] for at in range(0, len(summary.ranks), each)]


def unit_of(largest: float) -> tuple[float, str]:
    """How many bytes the unit of an axis has that goes up to ``largest``, and its name."""
    for power, name in ((3, "GiB"), (2, "MiB"), (1, "KiB")):
        if largest >= 1024.0**power:
            return 1024.0**power, name
    return 1.0, "B"


def tint(colour: str) -> tuple[float, float, float]:
    """A colour for areas that text stands on."""
    red, green, blue = mpl.colors.to_rgb(colour)
    return tuple(0.42 * channel + 0.58 for channel in (red, green, blue))  # type: ignore[return-value]  # three of them


def _costs(summary: PlanSummary, name: str) -> tuple[float, ...]:
    return tuple(float(getattr(rank.cost, name)) for rank in summary.ranks)


def _draw_memory(
    axes: Any, summary: PlanSummary, parts: list[Part], capacity: float, margin: int
) -> str:
    """Draws the ranks' stacks and what bounds them; returns the axis' unit."""
    used = max(map(sum, zip(*(part.values for part in parts), strict=True)))
    far = used < LEAST_SHARE * capacity
    top = 1.3 * used if far else 1.04 * max(capacity, used)
    divisor, unit = unit_of(top)
    _stack(axes, summary, parts, divisor)
    axes.set_ylim(0, top / divisor)
    if far:
        axes.text(
            0.01,
            0.985,
            f"↑ a rank has {size(capacity)}: far above this picture",
            transform=axes.transAxes,
            va="top",
            color=GREY,
        )
        return unit
    if margin:
        axes.axhspan(
            (capacity - margin) / divisor,
            capacity / divisor,
            facecolor="#F4F4F4",
            edgecolor="#BDBDBD",
            hatch="//",
            linewidth=0,
            zorder=0.5,
            label="kept for activations and the allocator",
        )
    axes.axhline(capacity / divisor, color=BLACK, linewidth=1)
    axes.annotate(
        f"a rank has {size(capacity)}",
        (1, capacity / divisor),
        xycoords=("axes fraction", "data"),
        xytext=(-2, 2),
        textcoords="offset points",
        ha="right",
    )
    return unit


def _stack(axes: Any, summary: PlanSummary, parts: Sequence[Part], divisor: float) -> None:
    """Layers on each other; a column of several ranks has their mean, and their least and most."""
    groups = columns(summary)
    base = [0.0] * len(groups)
    for part in parts:
        means = [sum(part.values[r.rank] for r in group) / len(group) / divisor for group in groups]
        top = [low + mean for low, mean in zip(base, means, strict=True)]
        style = {
            "facecolor": tint(part.colour),
            "edgecolor": part.colour,
            "hatch": part.hatch,
            "linewidth": 0.5,
            "label": part.name,
        }
        if len(groups) <= BARS:
            axes.bar(range(len(groups)), means, 0.8, bottom=base, **style)
        else:
            edges = [index - 0.5 for index in range(len(groups) + 1)]
            axes.stairs(top, edges, baseline=base, fill=True, **style)
        base = top
    if len(groups) < len(summary.ranks):
        totals = [sum(v) / divisor for v in zip(*(part.values for part in parts), strict=True)]
        _spread(axes, groups, totals.__getitem__)
    axes.grid(visible=False, axis="x")


def _spread(
    axes: Any, groups: Sequence[Sequence[RankSummary]], total: Callable[[int], float]
) -> None:
    """From the least to the most of each group's ranks."""
    axes.vlines(
        range(len(groups)),
        [min(total(rank.rank) for rank in group) for group in groups],
        [max(total(rank.rank) for rank in group) for group in groups],
        color=BLACK,
        linewidth=0.8,
        label="least to most of a column",
    )


def name_ranks(axes: Any, summary: PlanSummary) -> None:
    """Ticks at whole ranks, and a line between nodes where there are few."""
    groups = columns(summary)
    each = len(groups[0])
    axes.set_xlim(-0.6, len(groups) - 0.4)
    node = max(summary.cluster.ranks_per_node // each, 1)
    step = 1 if len(groups) <= 16 else node * -(-len(groups) // (16 * node))
    if step > len(groups) / 4 and len(groups) > 16:
        step = -(-len(groups) // 16)
    ticks = range(0, len(groups), step)
    axes.set_xticks(ticks, [str(groups[tick][0].rank) for tick in ticks])
    axes.set_xlabel("Rank" if each == 1 else f"First rank of {each} (their mean)")
    if each == 1 and 1 < summary.cluster.nodes <= 32:
        for first in range(node, len(groups), node):
            axes.axvline(first - 0.5, color=GREY, linewidth=0.6, linestyle=(0, (1, 2)))


def _add_legend(figure: Figure, panels: Sequence[Any]) -> None:
    """Above the figure, in the order of the layers; bands and lines last."""
    named = [
        pair for axes in panels for pair in zip(*axes.get_legend_handles_labels(), strict=True)
    ]
    named.sort(key=lambda pair: pair[1].startswith(("kept", "least", "mean")))
    longest = max(len(name) for _, name in named)
    handles, names = zip(*named, strict=True)
    figure.legend(handles, names, loc="outside upper left", ncols=3 if longest < 22 else 2)

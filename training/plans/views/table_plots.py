"""The pictures of a plan, table by table: where each sits, and its size against its cost."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont, get_font
from matplotlib.patches import Patch, Rectangle

from dropdrift.sharding.summary import PlanSummary, TableSummary
from dropdrift.training.figures import COLOURS, STYLE
from dropdrift.training.plans.views.grids import by_size, size
from dropdrift.training.plans.views.plots import BARS, WIDTH, columns, name_ranks, tint, unit_of

# A colour, a hatch and a marker for each sharding type, the same in all plans.
TYPE_STYLES = {
    "table_wise": (COLOURS[0], "", "o"),
    "row_wise": (COLOURS[1], "////", "s"),
    "table_row_wise": (COLOURS[2], "\\\\\\\\", "^"),
    "column_wise": (COLOURS[3], "||||", "D"),
    "table_column_wise": (COLOURS[4], "----", "v"),
    "grid_shard": (COLOURS[5], "++++", "P"),
    "data_parallel": (COLOURS[6], "xxxx", "X"),
}
LABEL = 7.5  # points
# Of a label: its height, and the mean width of a character.
LINE, CHARACTER = 1.35 * LABEL, 0.6 * LABEL
SHORTEST_LABEL = 5  # characters
LABELLED_POINTS = 8


@dataclass(frozen=True)
class Block:
    """A rectangle of the placement: shards of a table, or of several small ones.

    Attributes:
        name: of the table, or how many it stands for.
        kind: sharding type.
        first: its first column; ``last`` its last.
        bottom: bytes below it.
        height: bytes of a column that it takes.
        text: its label where there is room.
    """

    name: str
    kind: str
    first: int
    last: int
    bottom: float
    height: float
    text: str


def placement(summary: PlanSummary) -> list[Block]:
    """Weights and optimizer state of each column of ranks, stacked.

    Types whose tables spread over most ranks lie at the bottom, so that parts of a table are side
    by side; such parts make one block. Within a type the largest table is the lowest. What is too
    small to see is one block of its type and column.
    """
    held = _held(summary)
    tallest = max(sum(column.values()) for column in held)
    alone = (0.012 if len(held) <= 32 else 0.025) * tallest
    tops = [0.0] * len(held)
    blocks: list[Block] = []
    for tables in _by_type(summary):
        small: list[list[float]] = [[] for _ in held]
        for table in tables:
            # What is cut makes few blocks, which may be thinner.
            least = alone if len(table.ranks) == 1 else 0.004 * tallest
            name = f"{table.name} (host memory)" if table.spilled_bytes else table.name
            text = f"{name}, {size(table.stored_bytes)}"
            for index, column in enumerate(held):
                height = column.get(table.name, 0.0)
                if height >= least:
                    _add(
                        blocks,
                        Block(name, table.sharding_type, index, index, tops[index], height, text),
                    )
                    tops[index] += height
                elif table.name in column:
                    small[index].append(height)
        for index, heights in enumerate(small):
            if heights:
                name, height = f"{len(heights)} small", sum(heights)
                kind = tables[0].sharding_type
                _add(blocks, Block(name, kind, index, index, tops[index], height, f"{name} tables"))
                tops[index] += height
    return blocks


def placement_figure(summary: PlanSummary) -> Figure:
    """Ranks as columns, each a stack of its tables."""
    groups, blocks = columns(summary), placement(summary)
    top = max(block.bottom + block.height for block in blocks)
    divisor, unit = unit_of(top)
    width = min(max(3.0 + 0.95 * len(groups), WIDTH), 10.6)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(width, 5.2), layout="constrained")
        axes = figure.subplots()
        axes.set_ylim(0, 1.02 * top / divisor)
        name_ranks(axes, summary)
        # Points of a column and of a byte: what of a label has room. Axis and legend take the rest.
        across, up = (width - 0.9) * 72 / (len(groups) + 0.2), 4.3 * 72 / (1.02 * top)
        for block in blocks:
            _draw(axes, block, divisor, across, up, touching=len(groups) > BARS)
        axes.grid(visible=False)
        axes.set_ylabel(f"Weights and optimizer state, {unit}")
        kinds = dict.fromkeys(table.sharding_type for table in summary.tables)
        patches = [Patch(label=kind, **_style(kind)) for kind in TYPE_STYLES if kind in kinds]
        figure.legend(handles=patches, loc="outside upper left", ncols=4)
    return figure


def cost_figure(summary: PlanSummary) -> Figure:
    """Each table's size against its estimated cost, both on logarithmic scales."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, 4.3), layout="constrained")
        axes = figure.subplots()
        axes.set(xscale="log", yscale="log")
        axes.minorticks_off()
        for kind, (colour, _, mark) in TYPE_STYLES.items():
            own = [_point(table) for table in summary.tables if table.sharding_type == kind]
            if own:
                x, y = zip(*own, strict=True)
                axes.plot(x, y, mark, color=colour, label=kind, markersize=5.5, alpha=0.65, mew=0)
        stored, cost = zip(*map(_point, summary.tables), strict=True)
        _bytes_ticks(axes, stored)
        _time_ticks(axes, cost)
        axes.set_xlabel("Weights and optimizer state")
        axes.set_ylabel("Estimated ms of a step, summed over ranks")
        figure.legend(loc="outside upper left", ncols=3)
        figure.draw_without_rendering()
        _label_points(axes, summary.tables)
    return figure


def drawable(text: str) -> str:
    """``text`` with a box for each character that the figures' font does not have."""
    return "".join(c if c.isprintable() and ord(c) in _characters() else "□" for c in text)


@cache
def _characters() -> frozenset[int]:
    return frozenset(get_font(findfont("DejaVu Sans")).get_charmap())


def _held(summary: PlanSummary) -> list[dict[str, float]]:
    """Bytes of each table in each column, of the mean rank."""
    groups = columns(summary)
    column_of = {rank.rank: index for index, group in enumerate(groups) for rank in group}
    held: list[dict[str, float]] = [defaultdict(float) for _ in groups]
    for table in summary.tables:
        for shard in table.shards:
            index = column_of[shard.rank]
            stored = shard.weight_bytes + shard.optimizer_bytes
            held[index][table.name] += stored / len(groups[index])
    return held


def _by_type(summary: PlanSummary) -> list[list[TableSummary]]:
    """Tables of each type, the type first that has a table on most ranks."""
    types: dict[str, list[TableSummary]] = defaultdict(list)
    for table in by_size(summary.tables):
        types[table.sharding_type].append(table)
    return sorted(types.values(), key=lambda own: -max(len(table.ranks) for table in own))


def _add(blocks: list[Block], block: Block) -> None:
    """Adds a block, or widens the last one where it goes on beside it."""
    last = blocks[-1] if blocks else None
    if (
        last is not None
        and (last.name, last.kind, last.last + 1) == (block.name, block.kind, block.first)
        and math.isclose(last.height, block.height, rel_tol=0.02)
        and abs(last.bottom - block.bottom) <= 0.1 * block.height
    ):
        blocks[-1] = replace(last, last=block.last)
    else:
        blocks.append(block)


def _style(kind: str) -> dict[str, Any]:
    colour, hatch, _ = TYPE_STYLES[kind]
    return {"facecolor": tint(colour), "edgecolor": colour, "hatch": hatch, "linewidth": 0.6}


def _draw(
    axes: Any, block: Block, divisor: float, across: float, up: float, *, touching: bool
) -> None:
    """A block, with as much of its label as fits; ``across`` and ``up`` are points of the axes."""
    side = 0.5 if touching else 0.46
    left, wide = block.first - side, block.last - block.first + 2 * side
    axes.add_patch(
        Rectangle(
            (left, block.bottom / divisor), wide, block.height / divisor, **_style(block.kind)
        )
    )
    room, tall = wide * across - 4, block.height * up
    turned = False
    if tall < LINE or room < SHORTEST_LABEL * CHARACTER:
        turned, room, tall = True, tall - 4, wide * across
    if tall < LINE:
        return
    characters = int(room / CHARACTER)
    label = drawable(block.text)
    if len(label) > characters:
        label = _cut(drawable(block.name), characters)
    if not label:
        return
    axes.text(
        left + wide / 2,
        (block.bottom + block.height / 2) / divisor,
        label,
        rotation=90 if turned else 0,
        ha="center",
        va="center",
        fontsize=LABEL,
        parse_math=False,
        bbox={"facecolor": "white", "alpha": 0.7, "linewidth": 0, "pad": 0.8},
    )


def _cut(label: str, characters: int) -> str:
    """As much as fits of a label; nothing where that would say nothing."""
    if len(label) <= characters:
        return label
    if characters < SHORTEST_LABEL:
        return ""
    before = characters // 2
    return f"{label[:before]}…{label[len(label) - (characters - before - 1) :]}"


def _point(table: TableSummary) -> tuple[float, float]:
    """Bytes and milliseconds, neither of them 0, which has no place on these axes."""
    return max(float(table.stored_bytes), 1.0), max(table.cost.total, 1e-6)


def _bytes_ticks(axes: Any, amounts: Sequence[float]) -> None:
    """Powers of two as ticks, at most eight."""
    low, high = _range(amounts, 2.0)
    first, last = math.log2(low), math.log2(high)
    step = next(s for s in (1, 2, 3, 5, 10) if (last - first) / s <= 7)
    powers = range(math.ceil(first / step) * step, math.floor(last) + 1, step)
    texts = [size(2.0**power).replace(".00", "").replace(".0 ", " ") for power in powers]
    axes.set_xticks([2.0**power for power in powers], texts)
    axes.set_xlim(low, high)


def _time_ticks(axes: Any, amounts: Sequence[float]) -> None:
    """1, 2 and 5 of each decade as ticks, more or fewer where there are few or many of them."""
    low, high = _range(amounts, 1.6)
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for digits in (range(1, 10), (1, 2, 5), (1,)):
        ticks = [digit * 10.0**power for power in decades for digit in digits]
        shown = [tick for tick in ticks if low <= tick <= high]
        if len(shown) <= 9:
            break
    axes.set_yticks(shown, [f"{tick:g}" for tick in shown])
    axes.set_ylim(low, high)


def _range(amounts: Sequence[float], margin: float) -> tuple[float, float]:
    """From below the least to above the most."""
    return min(amounts) / margin, max(amounts) * margin


def _label_points(axes: Any, tables: Iterable[TableSummary]) -> None:
    """Names of the most expensive tables, where one does not stand on another."""
    taken: list[Any] = []
    frame = axes.get_window_extent()
    ordered = sorted(tables, key=lambda table: -table.cost.total)
    for table in ordered[:LABELLED_POINTS]:
        point = _point(table)
        name = _cut(drawable(table.name), 28)
        for x, y, side in ((6, 0, "left"), (-6, 0, "right"), (6, 9, "left"), (-6, -9, "right")):
            text = axes.annotate(
                name,
                point,
                xytext=(x, y),
                textcoords="offset points",
                ha=side,
                va="center",
                fontsize=LABEL + 1,
                color="black",
                parse_math=False,
                bbox={"facecolor": "white", "alpha": 0.7, "linewidth": 0, "pad": 0.4},
            )
            box = text.get_window_extent().padded(3)
            inside = frame.x0 <= box.x0 and box.x1 <= frame.x1 and box.y1 <= frame.y1 + 8
            if inside and not any(box.overlaps(other) for other in taken):
                taken.append(box)
                break
            text.remove()

"""The pictures of a plan hold the plan's numbers, and what is written in them has room."""

from __future__ import annotations

import itertools
from collections import defaultdict
from dataclasses import replace
from typing import Any

import pytest

from dropdrift.sharding.config import SHARDING_TYPES
from dropdrift.sharding.summary import PlanSummary
from dropdrift.training.figures import to_svg
from dropdrift.training.plans.views.plots import (
    columns,
    memory_figure,
    memory_parts,
    time_figure,
    time_parts,
)
from dropdrift.training.plans.views.table_plots import (
    TYPE_STYLES,
    cost_figure,
    drawable,
    placement,
    placement_figure,
)

GIB = 2**30


@pytest.fixture
def mixed(made_table: Any, made_plan: Any) -> PlanSummary:
    """Two nodes of four ranks: cut over all, over a node, on one rank, and one in host memory."""
    tables = [
        made_table("all", range(8), 16, 16.0, kind="row_wise"),
        made_table("node", range(4, 8), 12, 8.0, kind="table_row_wise"),
        made_table("host", range(8), 40, 99.0, kind="row_wise", kernel="fused_uvm_caching"),
        *(made_table(f"one{rank}", [rank], 1 + rank, 1.0) for rank in range(8)),
        *(made_table(f"small{rank}", [rank % 8], 1e-4, 0.1) for rank in range(40)),
    ]
    return made_plan(tables, 2, 4)


def drawn(figure: Any, panel: int = 0) -> dict[int, float]:
    """Heights of the bars that stand on each other at each place, together."""
    heights: dict[int, float] = defaultdict(float)
    for container in figure.axes[panel].containers:
        for bar in container:
            heights[round(bar.get_x() + bar.get_width() / 2)] += bar.get_height()
    return heights


# Numbers.


def test_memory_adds_up_to_what_the_ranks_hold(mixed: PlanSummary) -> None:
    parts = {part.name: part.values for part in memory_parts(mixed)}
    for rank in mixed.ranks:
        used = sum(values[rank.rank] for values in parts.values())
        assert used == rank.device_bytes + mixed.dense_bytes + mixed.input_bytes
    # Rank 5: 2 of 16, 3 of 12, its own 6 GiB and five of a ten thousandth, of which a 64th is
    # state; a 64th of a GiB of inputs and outputs for each of its nine tables.
    on_device = (2 + 3 + 6 + 5e-4) * GIB
    assert parts["weights"][5] == pytest.approx(on_device * 63 / 64, rel=1e-6)
    assert parts["optimizer state"][5] == pytest.approx(on_device / 64, rel=1e-6)
    assert parts["inputs, outputs, caches"][5] == 9 * GIB // 64


def test_bars_are_as_high_as_the_numbers(mixed: PlanSummary) -> None:
    figure = memory_figure(mixed)
    kept = mixed.dense_bytes + mixed.input_bytes
    assert figure.axes[0].get_ylabel() == "Memory of a rank, GiB"
    for rank in mixed.ranks:
        expected = (rank.device_bytes + kept) / GIB
        assert drawn(figure)[rank.rank] == pytest.approx(expected)
        assert drawn(figure, 1)[rank.rank] == pytest.approx(5.0)  # 40 GiB over 8 ranks
        assert drawn(time_figure(mixed))[rank.rank] == pytest.approx(rank.cost.total)


def test_times_add_up_to_the_step(mixed: PlanSummary) -> None:
    parts = time_parts(mixed)
    assert [part.name for part in parts] == [
        "forward compute",
        "forward communication",
        "backward compute",
        "backward communication",
    ]
    for rank in mixed.ranks:
        assert sum(part.values[rank.rank] for part in parts) == pytest.approx(rank.cost.total)
    rank = replace(mixed.ranks[0], cost=replace(mixed.ranks[0].cost, prefetch=2.5))
    parts = time_parts(replace(mixed, ranks=(rank, *mixed.ranks[1:])))
    assert parts[-1].name == "prefetch"
    assert parts[-1].values[:2] == (2.5, 0.0)


def test_capacity_is_drawn_where_it_is_near(made_table: Any, made_plan: Any) -> None:
    near = memory_figure(made_plan([made_table("t", [0], 40, 1.0)])).axes[0]
    assert 80.0 in [line.get_ydata()[0] for line in near.lines]
    assert any("a rank has 80.0 GiB" in text.get_text() for text in near.texts)
    plan = replace(made_plan([made_table("t", [0], 4, 1.0)]), dense_bytes=0, input_bytes=0)
    far = memory_figure(plan).axes[0]
    assert not far.lines
    assert far.get_ylim()[1] < 6
    assert any("80.0 GiB: far above" in text.get_text() for text in far.texts)


def test_a_rank_that_is_too_full_is_seen_above_the_line(made_table: Any, made_plan: Any) -> None:
    axes = memory_figure(made_plan([made_table("t", [0], 100, 1.0)])).axes[0]
    assert axes.get_ylim()[1] > 103  # 100 GiB and 3 for the dense part and batches


@pytest.mark.parametrize(
    ("nodes", "ranks", "count", "each"),
    [(1, 1, 1, 1), (32, 8, 256, 1), (64, 8, 64, 8), (1, 300, 150, 2), (1000, 1, 250, 4)],
)
def test_many_ranks_share_columns(
    nodes: int, ranks: int, count: int, each: int, made_table: Any, made_plan: Any
) -> None:
    world = nodes * ranks
    tables = [made_table("all", range(world), world, 6.0, kind="row_wise")]
    plan = made_plan([*tables, made_table("first", [0], 3, 1.0)], nodes, ranks)
    groups = columns(plan)
    assert (len(groups), len(groups[0])) == (count, each)
    assert [rank.rank for group in groups for rank in group] == list(range(world))
    # A column is the mean of its ranks: 1 GiB on each, and 3 on one of the first column's.
    heights = [0.0] * count
    for block in placement(plan):
        for index in range(block.first, block.last + 1):
            heights[index] += block.height / GIB
    assert heights[0] == pytest.approx(1 + 3 / each, rel=1e-6)
    assert heights[1:] == pytest.approx([1.0] * (count - 1), rel=1e-6)


# Placement.


def test_a_column_holds_what_its_rank_stores(mixed: PlanSummary) -> None:
    stored = [0] * 8
    for table in mixed.tables:
        for shard in table.shards:
            stored[shard.rank] += shard.weight_bytes + shard.optimizer_bytes
    tops = [0.0] * 8
    for block in sorted(placement(mixed), key=lambda block: block.bottom):
        for rank in range(block.first, block.last + 1):
            assert block.bottom == pytest.approx(tops[rank], abs=1e-3 * GIB)
            tops[rank] += block.height
    assert tops == pytest.approx(stored)


def test_tables_that_are_cut_are_one_block(mixed: PlanSummary) -> None:
    blocks = {block.name: block for block in placement(mixed)}
    assert (blocks["all"].first, blocks["all"].last) == (0, 7)
    assert (blocks["node"].first, blocks["node"].last) == (4, 7)
    assert blocks["host (host memory)"].text == "host (host memory), 40.0 GiB"
    assert (blocks["one3"].first, blocks["one3"].last) == (3, 3)
    assert blocks["5 small"].kind == "table_wise"
    assert not any(name.startswith("small") for name in blocks)


def test_types_differ_in_more_than_colour() -> None:
    assert {*SHARDING_TYPES, "data_parallel"} == set(TYPE_STYLES)
    for properties in zip(*TYPE_STYLES.values(), strict=True):
        assert len(set(properties)) == len(TYPE_STYLES)


# Text.


@pytest.mark.parametrize(("nodes", "ranks"), [(1, 1), (1, 8), (4, 8), (16, 8)])
def test_labels_stay_in_their_blocks(
    nodes: int, ranks: int, made_table: Any, made_plan: Any
) -> None:
    world = nodes * ranks
    tables = [
        made_table(f"A_WIDE_NAME_{i}", [i % world], 2.0 ** (i % 7), 1.0 + i)
        for i in range(3 * world)
    ]
    tables.append(made_table("CUT_TABLE", range(world), 4.0 * world, 9.0, kind="row_wise"))
    figure = placement_figure(made_plan(tables, nodes, ranks))
    figure.draw_without_rendering()
    (axes,) = figure.axes
    patches = [patch.get_window_extent() for patch in axes.patches]
    assert axes.texts
    for text in axes.texts:
        box = text.get_window_extent()
        x, y = (box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2
        (block,) = (p for p in patches if p.x0 <= x <= p.x1 and p.y0 <= y <= p.y1)
        assert block.x0 - 2 <= box.x0 <= box.x1 <= block.x1 + 2, text.get_text()
        assert block.y0 - 2 <= box.y0 <= box.y1 <= block.y1 + 2, text.get_text()


def test_names_of_expensive_tables_do_not_overlap(made_table: Any, made_plan: Any) -> None:
    tables = [made_table(f"table_of_name_{i}", [0], 1 + i / 50, 5 + i / 60) for i in range(60)]
    figure = cost_figure(made_plan([*tables, made_table("t", [1], 9, 99.0)]))
    figure.draw_without_rendering()
    (axes,) = figure.axes
    boxes = [text.get_window_extent() for text in axes.texts]
    assert "t" in [text.get_text() for text in axes.texts]
    assert len(boxes) > 1
    assert not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))


@pytest.mark.parametrize(
    ("gib", "ms"), [([1.0], [2.0]), ([1e-9, 1e5], [1e-7, 1e6]), ([2.0, 2.1], [50.0, 51.0])]
)
def test_axes_have_ticks_whatever_the_range(
    gib: list[float], ms: list[float], made_table: Any, made_plan: Any
) -> None:
    pairs = zip(gib, ms, strict=True)
    plan = made_plan([made_table(f"t{i}", [0], g, m) for i, (g, m) in enumerate(pairs)])
    (axes,) = cost_figure(plan).axes
    for low, high, ticks in (
        (*axes.get_xlim(), axes.get_xticks()),
        (*axes.get_ylim(), axes.get_yticks()),
    ):
        assert 1 <= len([tick for tick in ticks if low <= tick <= high]) <= 14


def test_any_name_can_be_drawn(made_table: Any, made_plan: Any) -> None:
    names = ["$x$ and $", "歌曲", "two\nlines", "<script>", "Größe", "a\x00b"]
    plan = made_plan([made_table(name, [i % 4], 5, 1.0 + i) for i, name in enumerate(names)])
    for figure in (placement_figure(plan), cost_figure(plan)):
        assert "<script>" not in to_svg(figure)  # and no warning, which would be an error
    assert drawable("歌_Größe\n") == "□_Größe□"


@pytest.mark.parametrize("world", [1, 2, 64, 65, 256])
def test_equal_plans_give_equal_pictures(world: int, made_table: Any, made_plan: Any) -> None:
    tables = [made_table(f"t{i}", [i % world], 0.1 + i / 10, 1.0 + i) for i in range(12)]
    plan = made_plan(tables, 1, world)
    for draw in (memory_figure, time_figure, placement_figure, cost_figure):
        assert to_svg(draw(plan)) == to_svg(draw(plan))

"""Sweeps: the smallest cluster by arithmetic, the front by its definition, processes, pictures."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text

from dropdrift.data.config import DataConfig
from dropdrift.data.schema import Schema
from dropdrift.models.config import ModelConfig
from dropdrift.sharding.config import PlanLimits, ShardingConfig
from dropdrift.training.config import OptimizerConfig
from dropdrift.training.plans.config import SweepConfig, SweepGrid
from dropdrift.training.plans.described_tables import DescribedTable, described_schema
from dropdrift.training.plans.sweeps.grids import notes, point_grids, smallest_grid, verdict
from dropdrift.training.plans.sweeps.plots import NARROW, WIDE, named_batches, sweep_figure
from dropdrift.training.plans.sweeps.smallest import MOST_NODES, Smallest
from dropdrift.training.plans.sweeps.sweep import (
    SAME_RATE,
    Sweep,
    grid_points,
    pareto_front,
    run_sweep,
    sweep_document,
)
from dropdrift.training.plans.sweeps.trial import BatchSize, Numbers, Point, Trial, try_point

GIB = 1 << 30
BATCH = BatchSize(64)


def ignore(done: int, known: int) -> None:
    del done, known


def schema(tables: int) -> Schema:
    """Tables of 4 GiB each: 2**24 rows of 64 numbers of 4 bytes."""
    described = DescribedTable("table", rows=1 << 24, width=64, count=tables)
    return described_schema("example", (described,), ("click",))


def config(sweep: SweepGrid, **changes: object) -> SweepConfig:
    """GPUs of 10 GiB, each with room for two such tables and no third."""
    base = SweepConfig(
        data=DataConfig(batch_size=64),
        model=ModelConfig(method="base"),
        sharding=ShardingConfig(types=("table_wise",), hbm_gib=10.0, reserve=0.0),
        optimizer=OptimizerConfig(sparse="sgd"),
        sweep=sweep,
        workers=1,
    )
    return replace(base, **changes)  # type: ignore[arg-type]  # as the caller says


def trial(gpus: int, rows_per_second: float, fits: bool = True, hardware: str = "H100") -> Trial:
    numbers = Numbers(1.0, rows_per_second, GIB, 2 * GIB, 3 * GIB, 1.0, 1.0, 0, ())
    # Rates differ by the batch, so that every trial has a point of its own.
    point = Point(hardware, hardware, 1, gpus, BatchSize(int(rows_per_second)))
    return Trial(point, fits, "" if fits else "no room", numbers=numbers if fits else None)


@pytest.mark.parametrize(
    ("tables", "gpus_per_node", "nodes", "cluster", "smaller"),
    [
        (1, 8, (1,), (1, 1), None),  # one GPU is enough
        (12, 8, (1,), (1, 6), (1, 5)),  # below the grid: six GPUs hold two each
        (12, 2, (2, 8), (3, 2), (2, 2)),  # between its points
        (24, 2, (1, 2), (6, 2), (5, 2)),  # beyond: from 2 nodes to 4, 8, then back
        (17, 8, (1,), (2, 8), (1, 8)),  # nine would do, but there are no ninths of nodes
    ],
)
def test_the_smallest_cluster_is_the_one_that_arithmetic_gives(
    tables: int,
    gpus_per_node: int,
    nodes: tuple[int, ...],
    cluster: tuple[int, int],
    smaller: tuple[int, int] | None,
) -> None:
    grid = SweepGrid(nodes, (gpus_per_node,), ("H100",))
    (answer,) = run_sweep(config(grid), schema(tables), 1, ignore).smallest
    assert answer.found is not None
    assert answer.found.fits
    point = answer.found.point
    assert (point.nodes, point.gpus_per_node) == cluster
    # The fullest GPU holds two tables, or the one that there is, and hardly more.
    assert answer.found.numbers is not None
    held = answer.found.numbers.fullest_bytes / (4 * GIB * min(tables, 2))
    assert 1.0 <= held < 1.1
    if smaller is None:
        assert answer.smaller is None
    else:
        assert answer.smaller is not None
        assert not answer.smaller.fits
        below = answer.smaller.point
        assert (below.nodes, below.gpus_per_node) == smaller


def test_where_nothing_fits_the_largest_cluster_was_tried_and_the_shortage_is_said() -> None:
    """A table of 4 GiB that is not cut, on GPUs of 3."""
    sharding = ShardingConfig(types=("table_wise",), hbm_gib=3.0, reserve=0.0)
    options = config(SweepGrid((1,), (2,), ("H100",), batch_sizes=(64, 128)), sharding=sharding)
    sweep = run_sweep(options, schema(3), 1, ignore)
    first, second = sweep.smallest
    assert first.found is second.found is None
    assert first.most.nodes == MOST_NODES
    assert first.smaller is not None
    assert first.smaller.point == first.most
    assert first.smaller.short_bytes is not None
    assert 1.0 <= first.smaller.short_bytes / GIB < 1.1
    # A larger batch needs no less, so that none was planned for it.
    assert second.smaller is None
    (point, _) = sweep.trials
    assert not point.fits
    # All three together, on two GPUs.
    assert point.short_bytes is not None
    assert 6.0 <= point.short_bytes / GIB < 6.2
    assert verdict(point) == f"{point.short_bytes / GIB:.2f} GiB short"
    assert not sweep.front


def test_what_spills_does_not_fit_unless_it_may() -> None:
    """Two tables of 4 GiB on one GPU of 6, with host memory allowed."""
    sharding = ShardingConfig(
        types=("table_wise",), kernels=("fused", "fused_uvm"), hbm_gib=6.0, reserve=0.0
    )
    grid = SweepGrid((1,), (1,), ("H100",))
    (point,) = grid_points(config(grid))
    spills = try_point(config(grid, sharding=sharding), schema(2), 1, point)
    assert not spills.fits
    assert verdict(spills) == "4.00 GiB spilled"
    assert "limits.max_spill_gib 0" in spills.reason
    allowed = config(grid, sharding=sharding, limits=PlanLimits(max_spill_gib=5.0))
    assert try_point(allowed, schema(2), 1, point).fits


def test_a_skewed_plan_fits_and_is_said_to_be_skewed() -> None:
    """Three tables on four GPUs: one has none, so that the fullest has 4/3 of the mean."""
    (point,) = grid_points(config(SweepGrid((1,), (4,), ("H100",))))
    skewed = try_point(config(SweepGrid(), limits=PlanLimits(max_skew=1.2)), schema(3), 1, point)
    assert skewed.fits
    assert skewed.numbers is not None
    assert skewed.numbers.memory_skew == pytest.approx(4 / 3, rel=1e-6)
    assert verdict(skewed) == "skewed"
    kept = try_point(config(SweepGrid()), schema(3), 1, point)
    assert verdict(kept) == ""


def test_global_batches_are_shared_and_rows_of_a_gpu_are_kept() -> None:
    grid = SweepGrid((1, 2), (4,), ("H100",), batch_sizes=(1_000,), rows_per_gpu=(100,))
    shared, shared_by_more, kept, kept_by_more = grid_points(config(grid))
    assert [shared.batch_size, shared_by_more.batch_size] == [1_000, 1_000]
    assert [shared.rows_per_gpu, shared_by_more.rows_per_gpu] == [250, 125]
    assert [kept.batch_size, kept_by_more.batch_size] == [400, 800]
    assert [kept.rows_per_gpu, kept_by_more.rows_per_gpu] == [100, 100]
    options = kept_by_more.options(config(grid))
    assert (options.data.batch_size, options.nodes, options.gpus_per_node) == (800, 2, 4)
    uneven = replace(shared, gpus_per_node=3)
    assert shared.divides
    assert not uneven.divides


def test_rows_a_second_are_those_of_the_batch_in_the_estimated_step() -> None:
    grid = SweepGrid((1,), (4,), ("H100",), batch_sizes=(4_000,))
    (point,) = grid_points(config(grid))
    numbers = try_point(config(grid), schema(4), 1, point).numbers
    assert numbers is not None
    assert numbers.rows_per_second == pytest.approx(4_000 / (numbers.step_ms / 1e3))


def test_empty_lists_are_the_configurations_own() -> None:
    grid = SweepGrid((3,), hardware=())
    (point,) = grid_points(config(grid, hardware="H200", gpus_per_node=2))
    assert point == Point("H200", "H200", 3, 2, BATCH)
    (point,) = grid_points(config(grid, sharding=ShardingConfig(hardware="b200")))
    assert (point.hardware, point.gpus_per_node) == ("B200", 8)
    (point,) = grid_points(config(grid, sharding=ShardingConfig()))
    assert (point.hardware, point.gpus_per_node) == ("CPU", 2)


@settings(deadline=None, max_examples=200)
@given(
    points=st.lists(
        st.tuples(st.integers(1, 6), st.integers(1, 12).map(lambda r: 10.0 * r), st.booleans()),
        unique_by=lambda p: p[:2],
        max_size=15,
    )
)
def test_the_front_is_what_nothing_dominates(points: list[tuple[int, float, bool]]) -> None:
    trials = [trial(*point) for point in points]

    def dominated(gpus: int, rows: float) -> bool:
        """By the definition, over all that fit. Rates are far apart or equal."""
        return any(
            (other <= gpus and more >= rows) and (other < gpus or more > rows)
            for other, more, fits in points
            if fits
        )

    expected = {(gpus, rows) for gpus, rows, fits in points if fits and not dominated(gpus, rows)}
    assert {(p.gpus, p.batch.rows) for p in pareto_front(trials)} == expected


def test_rates_that_hardly_differ_are_equal_on_the_front() -> None:
    hardly, clearly = 1 + SAME_RATE / 2, 1 + 2 * SAME_RATE
    base = trial(2, 1e6)
    front = pareto_front([base, trial(2, 1e6 * hardly), trial(2, 1e6 / clearly)])
    assert {point.batch.rows for point in front} == {1_000_000, int(1e6 * hardly)}
    assert pareto_front([base, trial(4, 1e6 * hardly)]) == {base.point}
    assert len(pareto_front([base, trial(4, 1e6 * clearly)])) == 2


@pytest.mark.timeout(120)
def test_processes_find_what_one_finds_and_say_how_far_they_are() -> None:
    grid = SweepGrid((1, 2), (2, 4), ("H100", "A100-80"), batch_sizes=(64, 4_096))
    told: list[tuple[int, int]] = []
    alone = run_sweep(config(grid), schema(12), 1, lambda *counts: told.append(counts))
    together = run_sweep(config(grid, workers=2), schema(12), 1, ignore)
    assert together == alone
    assert len(alone.trials) == 16
    assert (16, 16) in told
    done, known = told[-1]
    assert done == known > 16  # the searches too


def test_the_document_tells_everything_flat() -> None:
    grid = SweepGrid((1,), (4, 8), ("H100",), rows_per_gpu=(16,))
    sweep = run_sweep(config(grid), schema(12), 1, ignore)
    document = sweep_document("mine", sweep, {"command": "it"})
    assert list(document.items())[:3] == [("kind", "sweep"), ("format", 1), ("name", "mine")]
    assert document["provenance"] == {"command": "it"}
    short, fits = document["points"]
    assert (short["gpus"], short["fits"], short["step_ms"], short["on_front"]) == (
        *(4, False, None, False),
    )
    assert "TorchRec cannot lay them out" in short["reason"] or short["short_bytes"] > 0
    assert (fits["gpus"], fits["batch_size"], fits["rows_per_gpu"]) == (8, 128, 16)
    assert fits["fits"] is fits["on_front"] is fits["on_front_of_its_hardware"] is True
    assert fits["memory_bytes"] == 10 * GIB
    (smallest,) = document["smallest"]
    assert (smallest["batch_rows"], smallest["batch_rows_are"]) == (16, "per GPU")
    assert smallest["found"]["gpus"] == 6
    assert smallest["next_smaller"]["gpus"] == 5


def swept(*trials: Trial) -> Sweep:
    """A sweep without its searches."""
    smallest = tuple(
        Smallest(t.point.hardware, t.point.batch, t.point, t if t.fits else None, None)
        for t in trials
    )
    fronts = [
        pareto_front(t for t in trials if t.point.hardware == name) for name in ("H100", "H200")
    ]
    return Sweep(trials, pareto_front(trials), fronts[0] | fronts[1], smallest)


def test_grids_mark_fronts_uneven_batches_and_what_does_not_fit() -> None:
    sweep = swept(
        trial(1, 1e3, fits=False), trial(3, 1e4), trial(1, 9e3, hardware="H200"), trial(4, 5e4)
    )
    rows = [row for grid in point_grids(sweep) for row in grid.rows]
    assert [row[-1] for row in rows] == ["does not fit", "◆", "◆", "◆"]
    assert [row[2] for row in rows] == ["1,000", "10,000*", "9,000", "50,000"]
    assert rows[0][4:10] == ("-",) * 6
    assert rows[1][4:10] == ("1.00 GiB", "50%", "100%", "1.00", "100%", "10,000")
    slower = swept(trial(1, 1e4, hardware="H200"), trial(2, 9e3))
    assert [row[-1] for grid in point_grids(slower) for row in grid.rows] == ["◆", "◇"]
    text = " ".join(notes(sweep, PlanLimits()))
    assert "* training refuses" in text
    assert "skewed" not in text


@pytest.mark.parametrize(("other", "said"), [(1.05e4, True), (1.2e4, False), (None, False)])
def test_that_the_batch_hardly_matters_is_said_where_it_does_not(
    other: float | None, said: bool
) -> None:
    trials = [trial(2, 1e4), *([trial(2, other)] if other else []), trial(4, 3e4)]
    text = " ".join(notes(swept(*trials), PlanLimits()))
    assert ("hardly depend on the batch size" in text) == said


def test_batches_with_one_answer_share_a_row() -> None:
    def answer(rows: int, gpus: int) -> Smallest:
        """``rows`` fit ``gpus``."""
        found = trial(gpus, float(rows))
        return Smallest("H100", BatchSize(rows), found.point, found, None)

    answers = (answer(8, 1), answer(16, 1), answer(32, 2))
    grid = smallest_grid(replace(swept(trial(1, 8.0)), smallest=answers))
    assert [row[:4] for row in grid.rows] == [
        ("H100", "8 to 16", "1 x 1", "1"),
        ("H100", "32", "1 x 2", "2"),
    ]


@pytest.mark.parametrize(
    ("places", "name"),
    [
        ((0, 1, 2, 3), ""),
        ((0,), "1k"),
        ((0, 1), "≤2.05k"),
        ((2, 3), "≥65.5k"),
        ((1, 2), "2.05k–65.5k"),  # noqa: RUF001  # a range's dash
        ((3,), "1.05M"),
        ((0, 2), "2 of 4"),
    ],
)
def test_batches_are_named_briefly(places: tuple[int, ...], name: str) -> None:
    every = [BatchSize(rows) for rows in (1_000, 2_048, 65_536, 1_048_576)]
    assert named_batches([every[place] for place in places], every) == name


@pytest.mark.parametrize("width", [WIDE, NARROW])
def test_the_picture_shows_every_kind_of_point_inside_it(width: float) -> None:
    trials = [
        *(
            trial(gpus, 1e6 * gpus, hardware=name)
            for gpus in (1, 2, 8)
            for name in ("H100", "H200")
        ),
        trial(4, 5e5),
        trial(16, 1.0, fits=False),
    ]
    figure = sweep_figure(swept(*trials), width)
    FigureCanvasAgg(figure).draw()
    (axes,) = figure.axes
    assert [label.get_text() for label in axes.get_xticklabels()] == ["1", "2", "4", "8", "16"]
    crosses = [line for line in axes.lines if line.get_marker() == "x"]
    assert len(crosses) == 1
    assert axes.get_ylabel() == "Million rows/s"
    edge = figure.bbox
    texts = [text for text in figure.findobj(Text) if text.get_text()]
    assert {"H100", "H200", "GPUs", "Million rows/s", "2M"} <= {t.get_text() for t in texts}
    for text in texts:
        box = text.get_window_extent()
        assert edge.x0 <= box.x0 <= box.x1 <= edge.x1, text.get_text()
        assert edge.y0 <= box.y0 <= box.y1 <= edge.y1, text.get_text()


def test_a_picture_without_anything_that_fits_has_crosses_alone() -> None:
    (axes,) = sweep_figure(swept(trial(1, 1.0, fits=False), trial(2, 2.0, fits=False))).axes
    drawn = [line for line in axes.lines if len(line.get_path())]
    assert [line.get_marker() for line in drawn] == ["x", "x"]

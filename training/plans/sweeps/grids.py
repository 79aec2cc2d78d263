"""A sweep as text, which the terminal and the page both show. Needs no torch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

from dropdrift.sharding.config import PlanLimits
from dropdrift.sharding.wording import gib
from dropdrift.training.comparison import Grid
from dropdrift.training.plans.sweeps.smallest import Smallest
from dropdrift.training.plans.sweeps.sweep import SAME_RATE, Sweep, rate
from dropdrift.training.plans.sweeps.trial import BatchSize, Point, Trial
from dropdrift.training.plans.views.grids import milliseconds, rounded, share, size

BEST, BEST_OF_HARDWARE, UNEVEN = "◆", "◇", "*"
# Spread of rows a second that the batch size is said to make no difference by.
HARDLY = 0.1
# Columns that a narrow terminal is not shown, first one first.
OPTIONAL = ("of mean", "of available", "Rows a GPU", "GPUs", "Next smaller")


def point_grids(sweep: Sweep) -> Iterator[Grid]:
    """For each hardware a row for each cluster and batch, those of a GPU's rows by themselves."""
    for (hardware, per_gpu), trials in groupby(
        sweep.trials, lambda trial: (trial.point.hardware, trial.point.batch.per_gpu)
    ):
        scaling = (
            "each GPU keeps its rows, the global batch grows with the GPUs"
            if per_gpu
            else "the global batch stays, GPUs share its rows"
        )
        yield Grid(
            f"{hardware}: {scaling}",
            (
                *("Cluster", "GPUs", "Batch", "Rows a GPU"),
                *("Fullest GPU", "of available", "of mean", "Step, ms", "of mean", "Rows/s", ""),
            ),
            tuple(_row(trial, sweep) for trial in trials),
        )


def smallest_grid(sweep: Sweep) -> Grid:
    """For each hardware the smallest cluster; batches that have the same one share a row."""
    return Grid(
        "The smallest cluster that fits",
        ("Hardware", "Batch", "Cluster", "GPUs", "of available", "Next smaller", ""),
        tuple(
            _smallest_row(list(same))
            for _, same in groupby(
                sweep.smallest,
                lambda s: (s.hardware, s.batch.per_gpu, s.found and s.found.point.cluster),
            )
        ),
    )


def notes(sweep: Sweep, limits: PlanLimits) -> Iterator[str]:
    """How to read the grids, a paragraph each."""
    yield (
        "Steps (of the slowest GPU) and rows a second are TorchRec's estimates of embeddings "
        "alone, without the dense part and without overlap: for comparing. Memory is what tables, "
        "inputs and outputs take on the fullest GPU; available is what is not kept for the rest. "
        "The shares of the mean compare these GPUs with the mean of all."
    )
    if _batches_hardly_matter(sweep.trials):
        yield (
            "Rows a second hardly depend on the batch size here: the estimated time grows in "
            "proportion to the rows, for a step has no fixed cost in it. What fits does depend on "
            "it."
        )
    if sweep.front:
        yield (
            f"{BEST} Pareto front: more rows a second take more GPUs, whatever the hardware. "
            f"{BEST_OF_HARDWARE} the same among points of one hardware. Rows a second within "
            f"{SAME_RATE:.0%} count as equal."
        )
    if any(trial.numbers and trial.numbers.skewed for trial in sweep.trials):
        yield f"skewed: a GPU has more than limits.max_skew, {limits.max_skew:g} times the mean."
    looked_at = [*sweep.trials, *(s.found for s in sweep.smallest if s.found)]
    if any(not trial.point.divides for trial in looked_at):
        yield f"{UNEVEN} training refuses a batch that the GPUs do not share evenly."
    yield (
        "The smallest cluster was looked for between and beyond those of the grid: some GPUs of a "
        f"node, then whole nodes, up to {max(s.most.nodes for s in sweep.smallest)}. The next "
        "smaller one was planned too. A larger batch is taken not to fit where a smaller one fits "
        "nowhere."
    )


def verdict(trial: Trial) -> str:
    """In a few words why a point does not fit, or that it is skewed."""
    if trial.fits:
        return "skewed" if trial.numbers and trial.numbers.skewed else ""
    if trial.short_bytes is not None:
        return f"{gib(trial.short_bytes)} GiB short"
    if trial.numbers and trial.numbers.spilled_bytes:
        return f"{gib(trial.numbers.spilled_bytes)} GiB spilled"
    return "does not fit"


def batches_text(batches: Sequence[BatchSize]) -> str:
    """Sizes of one kind, ascending."""
    first, last = batches[0], batches[-1]
    span = f"{first.rows:,}" if first == last else f"{first.rows:,} to {last.rows:,}"
    return f"{span} a GPU" if first.per_gpu else span


def _batches_hardly_matter(trials: Sequence[Trial]) -> bool:
    """Whether clusters were planned for several batches, and none does much better with one."""
    rates: dict[tuple[str, str], list[float]] = {}
    for trial in trials:
        if trial.fits:
            rates.setdefault((trial.point.hardware, trial.point.cluster), []).append(rate(trial))
    spreads = [max(own) / min(own) for own in rates.values() if len(own) > 1]
    return bool(spreads) and max(spreads) < 1 + HARDLY


def _row(trial: Trial, sweep: Sweep) -> tuple[str, ...]:
    point, numbers = trial.point, trial.numbers
    best = BEST if point in sweep.front else ""
    mark = best or (BEST_OF_HARDWARE if point in sweep.hardware_fronts else "")
    figures = ("-",) * 6
    if numbers is not None:
        figures = (
            size(numbers.fullest_bytes),
            share(numbers.fullest_bytes, numbers.available_bytes),
            share(numbers.memory_skew, 1.0),
            milliseconds(numbers.step_ms),
            share(numbers.time_skew, 1.0),
            rounded(numbers.rows_per_second),
        )
    return (
        point.cluster,
        f"{point.gpus:,}",
        f"{point.batch_size:,}{_uneven(point)}",
        f"{point.rows_per_gpu:,}",
        *figures,
        " ".join(filter(None, (mark, verdict(trial)))),
    )


def _smallest_row(same: Sequence[Smallest]) -> tuple[str, ...]:
    """Of batches with one answer; the figures are those of the largest."""
    last = same[-1]
    batches, smaller = batches_text([one.batch for one in same]), same[0].smaller
    next_smaller = (smaller.point.cluster, verdict(smaller)) if smaller else ("-", "")
    if last.found is None:
        return last.hardware, batches, f"none to {last.most.cluster}", "-", "-", *next_smaller
    point, numbers = last.found.point, last.found.numbers
    assert numbers is not None, "what fits has a plan"
    uneven = UNEVEN if any(one.found and not one.found.point.divides for one in same) else ""
    return (
        last.hardware,
        batches,
        f"{point.cluster}{uneven}",
        f"{point.gpus:,}",
        share(numbers.fullest_bytes, numbers.available_bytes),
        *next_smaller,
    )


def _uneven(point: Point) -> str:
    return "" if point.divides else UNEVEN

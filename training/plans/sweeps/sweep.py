"""Plans for many clusters and batches: what fits, what is worth its GPUs, and what is enough.

Rows per second are estimates of embeddings alone. A batch that is given as rows of all GPUs is
shared by more of them as the cluster grows; one that is given as rows of a GPU grows with it.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby, product
from typing import Any

from dropdrift.data.schema import Schema
from dropdrift.sharding.hardware import Hardware, load_hardware
from dropdrift.training.plans.config import SweepConfig
from dropdrift.training.plans.sweeps.pool import Map, planner_pool
from dropdrift.training.plans.sweeps.smallest import Smallest, search
from dropdrift.training.plans.sweeps.trial import BatchSize, Point, Trial, try_point

FORMAT = 1  # of the JSON document
# Rows a second that differ by less are equal: the estimates are no better.
SAME_RATE = 0.02

# Is told how many plans are made and how many are known to be needed.
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Sweep:
    """What came of it.

    Attributes:
        trials: every point of the grid, by hardware, batch and size of the cluster.
        front: those that no other of any hardware beats.
        hardware_fronts: those that no other of the same hardware beats.
        smallest: the smallest cluster for each hardware and batch.
    """

    trials: tuple[Trial, ...]
    front: frozenset[Point]
    hardware_fronts: frozenset[Point]
    smallest: tuple[Smallest, ...]


def run_sweep(config: SweepConfig, schema: Schema, items: int, progress: Progress) -> Sweep:
    """Plan every point of the grid, and look for the smallest clusters beyond and between them.

    Args:
        config: the run's options and the grid.
        schema: fields and tables.
        items: of the whole catalogue (matching models).
        progress: is told how far it is.

    Raises:
        ValueError: a hardware is unknown, or the options contradict each other or the schema.
    """
    points = grid_points(config)
    workers = min(config.workers or len(os.sched_getaffinity(0)), len(points))
    task = partial(try_point, config, schema, items)
    with planner_pool(task, workers) as run:
        counter = _Counter(run, progress)
        trials = dict(zip(points, counter.plan(points), strict=True))
        smallest = _smallest(points, trials, counter)
    return Sweep(
        trials=tuple(trials.values()),
        front=pareto_front(trials.values()),
        hardware_fronts=frozenset().union(
            *(pareto_front(own) for _, own in groupby(trials.values(), lambda t: t.point.hardware))
        ),
        smallest=tuple(smallest),
    )


def grid_points(config: SweepConfig) -> list[Point]:
    """The grid, by hardware, batch and size of the cluster.

    Raises:
        ValueError: a hardware is unknown, or two have one name.
    """
    grid = config.sweep
    given = grid.hardware or (config.planned_hardware,)
    batches = [
        *(BatchSize(rows) for rows in sorted(grid.batch_sizes)),
        *(BatchSize(rows, per_gpu=True) for rows in sorted(grid.rows_per_gpu)),
    ] or [BatchSize(config.data.batch_size)]
    points = []
    for name, hardware in _load_all(given).items():
        per_node = grid.gpus_per_node or (config.gpus_per_node or hardware.gpus_per_node,)
        clusters = sorted(product(grid.nodes, per_node), key=lambda c: (math.prod(c), c))
        points += [
            Point(hardware.name, name, nodes, ranks, batch)
            for batch, (nodes, ranks) in product(batches, clusters)
        ]
    return points


def pareto_front(trials: Iterable[Trial]) -> frozenset[Point]:
    """The points that none beats: by fewer GPUs and as many rows a second, or as few and more.

    Of two rates the larger is more only where it is so by more than ``SAME_RATE``.
    """
    fitting = [trial for trial in trials if trial.fits]
    front: set[Point] = set()
    best_of_fewer = 0.0
    for gpus in sorted({trial.point.gpus for trial in fitting}):
        rates = {trial.point: rate(trial) for trial in fitting if trial.point.gpus == gpus}
        best = max(rates.values())
        front |= {
            point
            for point, rows in rates.items()
            if not _more(best, rows) and _more(rows, best_of_fewer)
        }
        best_of_fewer = max(best_of_fewer, best)
    return frozenset(front)


def _more(rows: float, others: float) -> bool:
    return rows > others * (1 + SAME_RATE)


def rate(trial: Trial) -> float:
    """Rows a second of a point that fits."""
    assert trial.numbers is not None, "what fits has a plan"
    return trial.numbers.rows_per_second


def sweep_document(name: str, sweep: Sweep, provenance: Mapping[str, Any]) -> dict[str, Any]:
    """All numbers of a sweep of the configuration ``name``, flat, for JSON.

    ``points``: one entry for each point of the grid. ``smallest``: one for each hardware and batch,
    whose ``found`` and ``next_smaller`` are such entries or null. Memory is in bytes and of one
    rank, times in ms, skew the largest over the mean; what no plan tells is null.
    """
    return {
        "kind": "sweep",
        "format": FORMAT,
        "name": name,
        "estimates": "TorchRec's, of embeddings alone: no dense part, no overlap",
        "points": [
            _entry(trial)
            | {
                "on_front": trial.point in sweep.front,
                "on_front_of_its_hardware": trial.point in sweep.hardware_fronts,
            }
            for trial in sweep.trials
        ],
        "smallest": [
            {
                "hardware": smallest.hardware,
                "batch_rows": smallest.batch.rows,
                "batch_rows_are": "per GPU" if smallest.batch.per_gpu else "global",
                "searched_gpus": smallest.most.gpus,
                "found": smallest.found and _entry(smallest.found),
                "next_smaller": smallest.smaller and _entry(smallest.smaller),
            }
            for smallest in sweep.smallest
        ],
        "provenance": provenance,
    }


def _entry(trial: Trial) -> dict[str, Any]:
    point, numbers = trial.point, trial.numbers
    figures = ("step_ms", "rows_per_second", "fullest_bytes", "available_bytes", "memory_bytes")
    skews = ("memory_skew", "time_skew", "spilled_bytes")
    return {
        "hardware": point.hardware,
        "nodes": point.nodes,
        "gpus_per_node": point.gpus_per_node,
        "gpus": point.gpus,
        "batch_size": point.batch_size,
        "rows_per_gpu": point.rows_per_gpu,
        "gpus_divide_batch": point.divides,
        "fits": trial.fits,
        "reason": trial.reason or None,
        "short_bytes": trial.short_bytes,
        **{name: numbers and getattr(numbers, name) for name in (*figures, *skews)},
        "limits_broken": list(numbers.skewed) if numbers else [],
    }


def _load_all(given: Sequence[str]) -> dict[str, Hardware]:
    """Hardware by the name or file that it was given by."""
    loaded = {name: load_hardware(name) for name in given}
    by_name: dict[str, str] = {}
    for text, hardware in loaded.items():
        if hardware.name in by_name:
            raise ValueError(
                f"sweep.hardware has {by_name[hardware.name]!r} and {text!r}, which are both "
                f"called {hardware.name}"
            )
        by_name[hardware.name] = text
    return loaded


@dataclass
class _Counter:
    """Hands out points and says how many are done."""

    run: Map[Point, Trial]
    progress: Progress
    done: int = 0
    known: int = 0

    def plan(self, points: Sequence[Point]) -> list[Trial]:
        """What came of each point."""
        self.known += len(points)
        # The largest take longest: begun last, one of them would leave the other workers idle.
        order = sorted(range(len(points)), key=lambda place: -points[place].gpus)
        trials: dict[int, Trial] = {}
        self.progress(self.done, self.known)
        for place, trial in self.run([points[place] for place in order]):
            trials[order[place]] = trial
            self.done += 1
            self.progress(self.done, self.known)
        return [trials[place] for place in range(len(points))]


def _smallest(
    points: Sequence[Point], known: Mapping[Point, Trial], counter: _Counter
) -> list[Smallest]:
    """One answer for each hardware and batch, in the points' order; all searches side by side."""
    kinds: dict[tuple[str, int, bool], dict[BatchSize, Point]] = {}
    for point in points:
        kind = (point.hardware, point.gpus_per_node, point.batch.per_gpu)
        kinds.setdefault(kind, {})[point.batch] = point
    searches = [search(list(batches.values()), known) for batches in kinds.values()]
    answers: dict[tuple[str, BatchSize], list[Smallest]] = {}
    replies: list[Trial | None] = [None] * len(searches)
    while searches:
        asked, going = [], []
        for one, reply in zip(searches, replies, strict=True):
            try:
                asked.append(next(one) if reply is None else one.send(reply))
                going.append(one)
            except StopIteration as ended:
                for answer in ended.value:
                    answers.setdefault((answer.hardware, answer.batch), []).append(answer)
        searches, replies = going, list(counter.plan(asked))
    wanted = dict.fromkeys((point.hardware, point.batch) for point in points)
    return [min(answers[key], key=_size) for key in wanted]


def _size(answer: Smallest) -> tuple[float, float]:
    """Fewest GPUs first, then fewest nodes."""
    if answer.found is None:
        return math.inf, -answer.most.gpus
    return answer.found.point.gpus, answer.found.point.nodes

"""The smallest cluster that holds the tables: where a search looks next.

Clusters of one kind of node are put in a row: 1, 2, ... ranks of one node, then whole nodes. Larger
clusters are taken to hold no less, and larger batches to need no less, so that the row is bisected.
What is found was planned and fits, and the next smaller one was planned and does not.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, replace

from dropdrift.training.plans.sweeps.trial import BatchSize, Point, Trial

MOST_NODES = 64


@dataclass(frozen=True)
class Smallest:
    """The smallest cluster of a hardware for a batch.

    Attributes:
        hardware: its name.
        batch: rows.
        most: the largest cluster that was looked at, or would have been.
        found: its plan; none: nothing fits up to ``most``.
        smaller: the next smaller cluster, which does not fit, or where nothing fits the largest;
            none where one rank is enough, or where a smaller batch fits nowhere either.
    """

    hardware: str
    batch: BatchSize
    most: Point
    found: Trial | None
    smaller: Trial | None


def search(
    points: Sequence[Point], known: Mapping[Point, Trial]
) -> Generator[Point, Trial, list[Smallest]]:
    """Yields points to plan, is sent what came of each, and returns the answer for each batch.

    Args:
        points: one for each batch, ascending, all of one hardware and kind of node.
        known: what has been planned before.
    """
    answers: list[Smallest] = []
    row = _clusters(points[0].gpus_per_node, max(MOST_NODES, *(p.nodes for p in known), 1))
    guess: int | None = None
    for point in points:
        most = _at(point, row[-1])
        if answers and answers[-1].found is None:
            answers.append(Smallest(point.hardware, point.batch, most, None, None))
            continue
        tried = {place: known[at] for place, c in enumerate(row) if (at := _at(point, c)) in known}
        while (place := _next(row, *_bounds(tried), guess)) is not None:
            tried[place] = yield _at(point, row[place])
        low, guess = _bounds(tried)
        found = None if guess is None else tried[guess]
        answers.append(Smallest(point.hardware, point.batch, most, found, tried.get(low)))
    return answers


def _clusters(gpus_per_node: int, most_nodes: int) -> list[tuple[int, int]]:
    """Nodes, and ranks of each."""
    parts = [(1, ranks) for ranks in range(1, gpus_per_node)]
    return parts + [(nodes, gpus_per_node) for nodes in range(1, most_nodes + 1)]


def _at(point: Point, cluster: tuple[int, int]) -> Point:
    return replace(point, nodes=cluster[0], gpus_per_node=cluster[1])


def _bounds(tried: Mapping[int, Trial]) -> tuple[int, int | None]:
    """Places of the smallest that fits, if any does, and of the largest below that does not."""
    high = min((place for place, trial in tried.items() if trial.fits), default=None)
    return max((p for p in tried if high is None or p < high), default=-1), high


def _next(
    row: Sequence[tuple[int, int]], low: int, high: int | None, guess: int | None
) -> int | None:
    """Where to look next: at the last batch's answer and below it, then twice as far or half way.

    None where there is nothing between ``low`` and ``high``.
    """
    end = len(row) if high is None else high
    if end - low <= 1:
        return None
    for place in (guess, None if guess is None else guess - 1):
        if place is not None and low < place < end:
            return place
    if high is not None:
        return (low + high) // 2
    nodes, ranks = row[max(low, 0)]
    whole = max(ranks for _, ranks in row)
    return whole - 1 if ranks < whole else min(low + nodes, len(row) - 1)

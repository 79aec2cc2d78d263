"""The search for the smallest cluster, against looking at every one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from dropdrift.training.plans.sweeps.smallest import MOST_NODES, Smallest, search
from dropdrift.training.plans.sweeps.trial import BatchSize, Point, Trial


@settings(deadline=None, max_examples=200)
@given(
    gpus_per_node=st.integers(1, 9),
    needs=st.lists(st.integers(1, 800), min_size=1, max_size=4),
    grid=st.sets(st.integers(1, 80), min_size=1, max_size=4),
)
def test_a_search_finds_the_smallest_and_plans_little(
    gpus_per_node: int, needs: list[int], grid: set[int]
) -> None:
    """Against all clusters one by one; a batch fits where there are as many GPUs as it needs."""
    needed = dict(zip((BatchSize(b) for b in (1, 2, 3, 4)), sorted(needs), strict=False))

    def plan(point: Point) -> Trial:
        """As the planner would."""
        return Trial(point, fits=point.gpus >= needed[point.batch])

    points = [Point("H100", "H100", 1, gpus_per_node, batch) for batch in needed]
    known = {p: plan(p) for one in points for n in grid for p in [replace(one, nodes=n)]}
    answers, planned = drive(points, known, plan)
    most_nodes = max(MOST_NODES, *grid)
    sizes = [*range(1, gpus_per_node), *(gpus_per_node * n for n in range(1, most_nodes + 1))]
    for answer in answers:
        fitting = [size for size in sizes if size >= needed[answer.batch]]
        below = [size for size in sizes if size < needed[answer.batch]]
        assert (answer.found.point.gpus if answer.found else None) == min(fitting, default=None)
        if answer.found:
            assert (answer.smaller.point.gpus if answer.smaller else None) == max(
                below, default=None
            )
    assert len(planned) == len(set(planned))
    assert not set(planned) & set(known)
    assert len(planned) <= 16 * len(needed)


def drive(
    points: list[Point], known: dict[Point, Trial], plan: Callable[[Point], Trial]
) -> tuple[list[Smallest], list[Point]]:
    """Answers of a search, and what it had planned."""
    going, planned = search(points, known), []
    try:
        point = next(going)
        while True:
            planned.append(point)
            point = going.send(plan(point))
    except StopIteration as ended:
        return ended.value, planned

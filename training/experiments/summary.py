"""The outcomes of an experiment put together: spreads over seeds, and differences to the base.

A difference is paired twice. By seed: the variant's value less the base's, of the same seed. By
user: both averaged over their common seeds first, so that what is left is who the users are.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from dropdrift.training.comparison import Estimate
from dropdrift.training.experiments.drift import Similarity
from dropdrift.training.experiments.plan import Plan
from dropdrift.training.experiments.statistics import (
    UNDEFINED,
    Interval,
    bootstrap_intervals,
    t_interval,
)


@dataclass(frozen=True)
class UserValues:
    """The metrics of each row of an evaluation.

    Attributes:
        users: whose row it is and what its target, as text, [R].
        values: one column for each metric, [R, Q].
    """

    users: NDArray[np.str_]
    values: NDArray[np.float64]


@dataclass(frozen=True)
class Outcome:
    """What one run came to.

    Attributes:
        seed: its seed.
        numbers: its metrics by name; empty where it failed.
        failure: why it came to nothing.
        users: the metrics by user; None where they were not written.
        training: steps, best step and seconds of the training.
        curve: step and value of the validation metric that chose the checkpoint.
        similarity: of its diffusion's estimates to the drift, where that was measured.
    """

    seed: int
    numbers: Mapping[str, float] = field(default_factory=dict)
    failure: str = ""
    users: UserValues | None = None
    training: Mapping[str, float] = field(default_factory=dict)
    curve: tuple[tuple[int, float], ...] = ()
    similarity: Similarity | None = None


@dataclass(frozen=True)
class Difference:
    """Of one metric to the base: by seed with its t interval, and an interval over users."""

    seeds: Estimate
    by_seed: Interval
    by_user: Interval


@dataclass(frozen=True)
class Summary:
    """All of an experiment that has been run.

    Attributes:
        plan: what was to be run.
        rows: outcomes by row, in the plan's order; a row that was not run is not there.
        titles: of the plan's metrics.
        curve_title: of the validation metric.
        differences: by row and metric; empty where the base was not run.
        test_rows: rows of the test part.
        schedules: beta_1..beta_T of the variants whose schedule is to be shown.
    """

    plan: Plan
    rows: Mapping[str, tuple[Outcome, ...]]
    titles: Mapping[str, str]
    curve_title: str
    differences: Mapping[tuple[str, str], Difference]
    test_rows: int
    schedules: Mapping[str, tuple[float, ...]] = field(default_factory=dict)

    def estimate(self, row: str, metric: str) -> Estimate:
        """The values of a row's seeds that did not fail."""
        return Estimate(tuple(_values(self.rows[row], metric).values()))

    def failures(self) -> Iterator[tuple[str, Outcome]]:
        """Rows and outcomes of the runs that failed."""
        for row, outcomes in self.rows.items():
            yield from ((row, outcome) for outcome in outcomes if outcome.failure)


def summarise(
    plan: Plan,
    rows: Mapping[str, Sequence[Outcome]],
    titles: Mapping[str, str],
    curve_title: str = "",
) -> Summary:
    """Compare all rows with the base.

    Raises:
        ValueError: two results of one seed are of different users.
    """
    kept = {row: tuple(outcomes) for row, outcomes in rows.items() if outcomes}
    sizes = _check_same_users(kept)
    differences: dict[tuple[str, str], Difference] = {}
    for row in kept if plan.base in kept else ():
        if row != plan.base:
            compared = _compare(kept[row], kept[plan.base], plan.metrics)
            differences |= {(row, metric): found for metric, found in compared.items()}
    return Summary(plan, kept, titles, curve_title, differences, max(sizes, default=0))


def _compare(
    new: Sequence[Outcome], base: Sequence[Outcome], metrics: Sequence[str]
) -> dict[str, Difference]:
    by_user = _user_intervals(new, base, len(metrics))
    differences = {}
    for metric, interval in zip(metrics, by_user, strict=True):
        values, others = _values(new, metric), _values(base, metric)
        paired = tuple(values[seed] - others[seed] for seed in values if seed in others)
        differences[metric] = Difference(Estimate(paired), t_interval(paired), interval)
    return differences


def _user_intervals(
    new: Sequence[Outcome], base: Sequence[Outcome], metrics: int
) -> list[Interval]:
    pairs = [
        (outcome.users, other.users)
        for outcome in new
        for other in base
        if outcome.seed == other.seed and outcome.users and other.users
    ]
    if not pairs:
        return [UNDEFINED] * metrics
    # Where the seed decides the split too, a user is there in some seeds only.
    users, codes = np.unique(np.concatenate([a.users for a, _ in pairs]), return_inverse=True)
    values = np.concatenate([a.values - b.values for a, b in pairs])
    sums = np.zeros((len(users), metrics))
    np.add.at(sums, codes, values)
    return bootstrap_intervals(sums / np.bincount(codes)[:, None])


def _values(outcomes: Sequence[Outcome], metric: str) -> dict[int, float]:
    return {o.seed: o.numbers[metric] for o in outcomes if not o.failure}


def _check_same_users(rows: Mapping[str, Sequence[Outcome]]) -> list[int]:
    """The number of test rows of each seed."""
    first: dict[int, tuple[str, UserValues]] = {}
    for row, outcomes in rows.items():
        for outcome in outcomes:
            if outcome.users is None:
                continue
            name, users = first.setdefault(outcome.seed, (row, outcome.users))
            if not np.array_equal(users.users, outcome.users.users):
                raise ValueError(
                    f"{name!r} and {row!r} (seed {outcome.seed}) were evaluated on different users "
                    "or targets: run them on the same data, in another --out"
                )
    return [len(users.users) for _, users in first.values()]

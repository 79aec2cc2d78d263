"""The outcomes of an experiment put together: spreads over seeds, and differences to the base.

A difference is paired twice. By seed: the variant's value less the base's, of the same seed. By
user: both averaged over their common seeds first, so that what is left is who the users are.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dropdrift.training.comparison import Estimate
from dropdrift.training.experiments.measures import Measures, UserValues
from dropdrift.training.experiments.plan import Plan
from dropdrift.training.experiments.statistics import Interval, bootstrap_intervals, t_interval
from dropdrift.training.metrics import relative_improvement
from dropdrift.training.result import EvaluationResult

if TYPE_CHECKING:
    from dropdrift.training.experiments.drift import Similarity  # which needs torch

Columns = NDArray[np.float64]


@dataclass(frozen=True)
class Outcome:
    """What one run came to.

    Attributes:
        seed: its seed.
        numbers: its metrics by name; empty where it failed.
        failure: why it came to nothing.
        collapse: how its model has collapsed; its numbers count in no mean.
        users: the metrics by user; None where they were not written.
        training: steps, best step and seconds of the training.
        curve: step and value of the validation metric that chose the checkpoint.
        similarity: of its diffusion's estimates to the drift, where that was measured.
        evaluation: of a ranking model.
        z_variance: of a ranking model, the variance of z in its last steps.
    """

    seed: int
    numbers: Mapping[str, float] = field(default_factory=dict)
    failure: str = ""
    collapse: str = ""
    users: UserValues | None = None
    training: Mapping[str, float] = field(default_factory=dict)
    curve: tuple[tuple[int, float], ...] = ()
    similarity: Similarity | None = None
    evaluation: EvaluationResult | None = None
    z_variance: float | None = None

    @property
    def counts(self) -> bool:
        """Whether its numbers are those of a sound model."""
        return not (self.failure or self.collapse)


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
        note: how to read the metrics.
        curve_title: of the validation metric.
        differences: by row and metric; empty where the base was not run.
        improvements: relative ones, likewise, of some metrics (RelaImpr).
        test_rows: rows of the test part that are resampled.
        units: what these are: users, or rows where users are not known.
        schedules: beta_1..beta_T of the variants whose schedule is to be shown.
    """

    plan: Plan
    rows: Mapping[str, tuple[Outcome, ...]]
    titles: Mapping[str, str]
    note: str
    curve_title: str
    differences: Mapping[tuple[str, str], Difference]
    improvements: Mapping[tuple[str, str], Difference]
    test_rows: int
    units: str
    schedules: Mapping[str, tuple[float, ...]] = field(default_factory=dict)

    def estimate(self, row: str, metric: str) -> Estimate:
        """The values of a row's seeds that count."""
        return Estimate(tuple(_values(self.rows[row], metric).values()))

    def evaluations(self) -> dict[str, tuple[EvaluationResult, ...]]:
        """Of ranking models, the evaluations that count, by row."""
        return {
            row: tuple(o.evaluation for o in outcomes if o.evaluation and o.counts)
            for row, outcomes in self.rows.items()
        }

    def lost(self) -> Iterator[tuple[str, Outcome]]:
        """Rows and outcomes of the runs that failed or collapsed."""
        for row, outcomes in self.rows.items():
            yield from ((row, outcome) for outcome in outcomes if not outcome.counts)


def summarise(
    plan: Plan,
    rows: Mapping[str, Sequence[Outcome]],
    measures: Measures,
    curve_title: str = "",
) -> Summary:
    """Compare all rows with the base.

    Raises:
        ValueError: two results of one seed are of different users.
    """
    kept = {row: tuple(outcomes) for row, outcomes in rows.items() if outcomes}
    first = _check_same_users(kept)
    differences: dict[tuple[str, str], Difference] = {}
    improvements: dict[tuple[str, str], Difference] = {}
    for row in kept if plan.base in kept else ():
        if row != plan.base:
            compared = _Comparison(kept[row], kept[plan.base], plan.metrics)
            absolute, relative = compared.differences(measures.relative)
            differences |= {(row, metric): found for metric, found in absolute.items()}
            improvements |= {(row, metric): found for metric, found in relative.items()}
    return Summary(
        plan,
        kept,
        measures.titles,
        measures.note,
        curve_title,
        differences,
        improvements,
        max((len(users.users) for users in first.values()), default=0),
        next((users.units for users in first.values()), "users"),
    )


class _Comparison:
    """A row beside the base."""

    def __init__(
        self, new: Sequence[Outcome], base: Sequence[Outcome], metrics: Sequence[str]
    ) -> None:
        others = {outcome.seed: outcome for outcome in base if outcome.counts}
        self._pairs = [(n, others[n.seed]) for n in new if n.counts and n.seed in others]
        self._metrics = metrics

    def differences(
        self, relative: Sequence[str]
    ) -> tuple[dict[str, Difference], dict[str, Difference]]:
        """Of all metrics, and relative to the base's value of those of ``relative``."""
        values, weights, base = self._by_user()
        columns = [self._metrics.index(metric) for metric in relative]
        # Both at once, so that users are drawn once.
        intervals = bootstrap_intervals(
            np.hstack([values, values[:, columns]]), np.hstack([weights, base[:, columns]])
        )
        count = len(self._metrics)
        return (
            self._differences(self._metrics, operator.sub, intervals[:count]),
            self._differences(relative, relative_improvement, intervals[count:]),
        )

    def _differences(
        self,
        metrics: Sequence[str],
        difference: Callable[[float, float], float],
        by_user: Sequence[Interval],
    ) -> dict[str, Difference]:
        found = {}
        for metric, interval in zip(metrics, by_user, strict=True):
            paired = [difference(n.numbers[metric], b.numbers[metric]) for n, b in self._pairs]
            found[metric] = Difference(Estimate(tuple(paired)), t_interval(paired), interval)
        return found

    def _by_user(self) -> tuple[Columns, Columns, Columns]:
        """Differences, weights and the base's values, each user's mean over seeds, [U, Q]."""
        pairs = [(n.users, b.users) for n, b in self._pairs if n.users and b.users]
        if not pairs:
            nothing = np.empty((0, len(self._metrics)))
            return nothing, nothing, nothing
        # Where the seed decides the split too, a user is there in some seeds only.
        names = np.concatenate([new.users for new, _ in pairs])
        users, codes = np.unique(names, return_inverse=True)
        seeds = np.bincount(codes)[:, None]

        def mean(columns: Sequence[Columns]) -> Columns:
            """By user, over seeds."""
            sums = np.zeros((len(users), len(self._metrics)))
            np.add.at(sums, codes, np.concatenate(columns))
            return sums / seeds

        return (
            mean([new.values - base.values for new, base in pairs]),
            mean([base.weights for _, base in pairs]),
            mean([base.values for _, base in pairs]),
        )


def _values(outcomes: Sequence[Outcome], metric: str) -> dict[int, float]:
    return {o.seed: o.numbers[metric] for o in outcomes if o.counts}


def _check_same_users(rows: Mapping[str, Sequence[Outcome]]) -> dict[int, UserValues]:
    """The users of each seed."""
    first: dict[int, tuple[str, UserValues]] = {}
    for row, outcomes in rows.items():
        for outcome in outcomes:
            if outcome.users is None:
                continue
            name, users = first.setdefault(outcome.seed, (row, outcome.users))
            same = np.array_equal(users.users, outcome.users.users)
            if not same or not np.array_equal(users.weights, outcome.users.weights):
                raise ValueError(
                    f"{name!r} and {row!r} (seed {outcome.seed}) were evaluated on different users "
                    "or targets: run them on the same data, in another --out"
                )
    return {seed: users for seed, (_, users) in first.items()}

"""What an experiment reads of its runs, whatever kind of model they are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from dropdrift.data.schema import Schema
from dropdrift.training.config import TrainConfig
from dropdrift.training.result import EvaluationResult


@dataclass(frozen=True)
class UserValues:
    """The metrics of an evaluation taken apart by user: sum of values over sum of weights.

    Attributes:
        users: whose they are, and of matching what the target is, ascending, [U].
        values: one column for each metric, [U, Q].
        weights: likewise; a user whose weight is 0 does not count, [U, Q].
        units: what a row is of: ``users``, or ``rows`` of a data set without users.
    """

    users: NDArray[np.str_] | NDArray[np.int64]
    values: NDArray[np.float64]
    weights: NDArray[np.float64]
    units: str = "users"


@dataclass(frozen=True)
class Measured:
    """One row of the table, of one run.

    Attributes:
        numbers: the metrics by name.
        users: the same by user; None where they were not written.
        collapse: how the run has collapsed; empty where it has not.
        evaluation: of a ranking model.
    """

    numbers: Mapping[str, float]
    users: UserValues | None = None
    collapse: str = ""
    evaluation: EvaluationResult | None = None


class Measures(Protocol):
    """The metrics that a plan names, of one kind of model.

    Attributes:
        titles: of the metrics, by name.
        note: how to read them.
        relative: metrics whose relative improvement is shown.
    """

    titles: Mapping[str, str]
    note: str
    relative: tuple[str, ...]

    def evaluation_options(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """The options of an evaluation that measures them, over those ``given``, by name."""

    def check(self, config: TrainConfig, base: TrainConfig, schema: Schema) -> None:
        """ValueError where a run lacks what a metric is of, or learns something else than the base.

        Args:
            config: of the run.
            base: of the variant that it is compared with.
            schema: of the data.
        """

    def measured(self, result_file: Path, last: Mapping[str, float]) -> dict[str, Measured]:
        """What an evaluated run came to, the first entry being the run's own.

        Args:
            result_file: of the run's evaluation.
            last: the last numbers of its training, by name.

        Returns:
            By what is added to the row's name.

        Raises:
            ValueError: a file is damaged or lacks a metric.
        """

    def curve_title(self, chosen_by: str) -> str:
        """The validation metric that chooses the checkpoint, as a figure names it."""

    def data_facts(self, config: TrainConfig, schema: Schema) -> dict[str, Any]:
        """Counts of the data, by name."""


def check_published(published: Mapping[str, Mapping[str, float]], metrics: tuple[str, ...]) -> None:
    """ValueError where a published figure is of a metric that is not shown."""
    for row, numbers in published.items():
        for metric in numbers:
            if metric not in metrics:
                raise ValueError(
                    f"published: {row}: {metric} is not among the metrics, {', '.join(metrics)}"
                )

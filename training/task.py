"""What one kind of model adds to the training loop: its batches and its validation."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any, Protocol, TypeVar

from torchrec.distributed import DistributedModelParallel

from dropdrift.data.loading.loader import Cursor
from dropdrift.data.schema import Schema
from dropdrift.training.config import TrainConfig
from dropdrift.training.distributed import Ranks

AnyLoader = TypeVar("AnyLoader")


class TrainingData(Protocol):
    """The batches of the training part on this rank, shuffled anew in each epoch."""

    steps_per_epoch: int

    def batches(self, cursor: Cursor) -> Generator[Any, None, None]:
        """The batches of the cursor's epoch from the cursor on."""


class Task(Protocol):
    """A kind of model in the training loop."""

    @property
    def data(self) -> TrainingData:
        """What is trained on."""

    @property
    def chosen_by(self) -> str:
        """The number of :meth:`validate` that chooses the best checkpoint."""

    @property
    def lower_is_better(self) -> bool:
        """Whether a lower one is better."""

    @property
    def lookup_rows(self) -> int:
        """Rows of one lookup on this rank, for the estimates of the sharding plan."""

    def validate(self, model: DistributedModelParallel) -> dict[str, float]:
        """Measure the validation part; every rank must call and gets the same numbers.

        Raises:
            ValueError: the part cannot tell the chosen number.
        """


def part_loader(
    kind: Callable[..., AnyLoader], part: str, config: TrainConfig, schema: Schema, ranks: Ranks
) -> AnyLoader:
    """The loader of a part of a run's data on this rank; ``train`` is shuffled.

    Args:
        kind: the loader's class.
        part: ``train`` or ``validation``.
        config: the run's options.
        schema: of the prepared data.
        ranks: this process among all.
    """
    return kind(
        config.data.path,
        part,
        schema,
        config.data,
        rank=ranks.rank,
        world_size=ranks.world_size,
        training=part == "train",
        seed=config.loop.seed,
    )

"""Options of the loader."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

Protocol = Literal["standard", "paper"]
Order = Literal["time", "file"]
Training = Literal["every_position", "one_window"]
Stretches = Literal["one", "all"]


@dataclass(frozen=True)
class SequenceConfig:
    """How sequences of interactions become training and evaluation rows (matching models).

    Attributes:
        protocol: standard: each user's last interaction is the test part, the second last the
            validation part. paper: T2Diff's, users are split 80 to 20 at random, and one random
            window of each test user is the test part.
        order: Order of a user's interactions. file: that of the source file, as T2Diff's published
            experiments have it; it is no recommendation task, since it leaks.
        window: Newest interactions that a user's vector is made from.
        training: every_position: every position of a stretch of a sequence is a target.
            one_window: one row is one window and its next item, as published.
        stretch: Interactions of one row (every_position).
        stretches: Rows of an epoch (every_position). one: a random stretch of each user, so that
            users weigh the same, as they do in an evaluation. all: every user's whole sequence.
        windows_per_user: Random windows of each training user in an epoch (one_window).
        fixed_windows: Draw the windows once rather than anew in each epoch, as published.
        negatives: Items sampled for each batch that its targets compete with; 0: the whole
            catalogue.
        split_seed: Seed of the paper protocol's split and evaluation windows.
        min_interactions: Users with fewer interactions are left out.
        exclude_seen: Leave the items that a user has met out of the ranking that validation
            measures. An evaluation reports both.
    """

    protocol: Protocol = "standard"
    order: Order = "time"
    window: int = 50
    training: Training = "every_position"
    stretch: int = 50
    stretches: Stretches = "one"
    windows_per_user: int = 10
    fixed_windows: bool = True
    negatives: int = 0
    split_seed: int = 0
    min_interactions: int = 5
    exclude_seen: bool = True

    def __post_init__(self) -> None:
        for name, least in (
            ("window", 1),
            ("stretch", 2),
            ("windows_per_user", 1),
            ("negatives", 0),
            ("split_seed", 0),
            ("min_interactions", 3),
        ):
            if getattr(self, name) < least:
                raise ValueError(
                    f"data.sequence.{name} is {getattr(self, name)}, must be at least {least}"
                )

    @property
    def row_length(self) -> int:
        """Positions of one training row."""
        return self.stretch if self.training == "every_position" else self.window

    def catalogue_rows(self, rows: int, items: int) -> int:
        """Rows of the catalogue of a training batch of ``rows`` rows on one rank, out of ``items``.

        With sampled negatives it has room for them and for every item of the rows and its target.
        """
        if not self.negatives:
            return items
        return self.negatives + min(rows * (self.row_length + 1), items)


@dataclass(frozen=True)
class DataConfig:
    """Where the prepared data is and how it is read.

    Attributes:
        path: Folder made by 'dropdrift prepare'.
        batch_size: Rows of one global batch, over all ranks.
        lanes: Independent streams that the training rows are cut into; the number of ranks must
            divide it. A run gives the same batches on any such number of ranks. 0: one lane a rank.
        shuffle_rows: Rows that are held and shuffled together, per lane. More is a better shuffle
            and more memory: with prefetch, two such groups are held.
        prefetch: Batches made ahead of the training step, per rank. 0: none.
    """

    path: Path = Path("runs/demo/data")
    batch_size: int = 512
    lanes: int = 0
    shuffle_rows: int = 262_144
    prefetch: int = 4
    sequence: SequenceConfig = field(default_factory=SequenceConfig)

    def __post_init__(self) -> None:
        for name in ("batch_size", "shuffle_rows"):
            if getattr(self, name) < 1:
                raise ValueError(f"data.{name} is {getattr(self, name)}, must be positive")
        for name in ("lanes", "prefetch"):
            if getattr(self, name) < 0:
                raise ValueError(f"data.{name} is {getattr(self, name)}, must not be negative")

    def lanes_on(self, ranks: int) -> int:
        """The lanes of a training on so many ranks; ValueError where the numbers do not divide."""
        lanes = self.lanes or ranks
        check_divides("data.lanes", lanes, ranks, "ranks")
        check_divides("data.batch_size", self.batch_size, lanes, "lanes")
        return lanes


def check_divides(name: str, value: int, parts: int, what: str = "ranks") -> None:
    """ValueError unless the option ``name`` is a multiple of a number of ranks or lanes."""
    if value % parts:
        raise ValueError(
            f"{name} is {value}, which {parts} {what} do not divide: choose a multiple of {parts}"
        )

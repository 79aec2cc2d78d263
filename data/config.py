"""Options of the loader."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


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

    def __post_init__(self) -> None:
        for name in ("batch_size", "shuffle_rows"):
            if getattr(self, name) < 1:
                raise ValueError(f"data.{name} is {getattr(self, name)}, must be positive")
        for name in ("lanes", "prefetch"):
            if getattr(self, name) < 0:
                raise ValueError(f"data.{name} is {getattr(self, name)}, must not be negative")

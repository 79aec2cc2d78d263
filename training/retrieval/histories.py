"""What users did, and the batches that their vectors are made from.

Shapes: R users, V items of all their histories, L the window.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torchrec.sparse.jagged_tensor import KeyedJaggedTensor

from dropdrift.data.batch import SequenceBatch
from dropdrift.data.interactions.sequences import Sequences
from dropdrift.data.ragged import end_to_end


@dataclass(frozen=True)
class Histories:
    """Interactions of R users, one user after the other, each oldest first.

    Attributes:
        offsets: int64 [R + 1], where each user's begin, and the end.
        rows: int64 [V], rows of the catalogue.
        times: int64 [V], when, in the unit of the data; 0 where unknown.
    """

    offsets: NDArray[np.int64]
    rows: NDArray[np.int64]
    times: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Number of interactions of each user, int64 [R]."""
        return np.diff(self.offsets)

    @staticmethod
    def of(sequences: Sequences, users: NDArray[np.int64]) -> Histories:
        """The whole histories of the users at ``users`` [R]; an empty one where that is -1."""
        lengths = np.where(users < 0, 0, sequences.lengths[users])
        starts = np.where(users < 0, 0, sequences.offsets[users])
        offsets, positions = end_to_end(starts, starts + lengths)
        return Histories(
            offsets, sequences.items[positions].astype(np.int64), sequences.times[positions]
        )

    def take(self, users: NDArray[np.int64]) -> Histories:
        """The histories at the positions ``users``."""
        offsets, positions = end_to_end(self.offsets[users], self.offsets[users + 1])
        return Histories(offsets, self.rows[positions], self.times[positions])

    def where(self, kept: NDArray[np.bool_]) -> Histories:
        """The interactions that are ``kept`` [V] alone."""
        before = np.concatenate([[0], np.cumsum(kept)])
        return Histories(before[self.offsets], self.rows[kept], self.times[kept])

    def in_time_order(self) -> Histories:
        """The same with each user's interactions by time, equal times as they were."""
        users = np.repeat(np.arange(len(self)), self.lengths)
        order = np.lexsort((self.times, users))
        return Histories(self.offsets, self.rows[order], self.times[order])

    def of_each(self) -> list[NDArray[np.int64]]:
        """The rows of each user."""
        return np.split(self.rows, self.offsets[1:-1]) if len(self) else []

    def batch(self, window: int, catalogue: KeyedJaggedTensor, first_row: int = 0) -> SequenceBatch:
        """A batch without targets whose items are rows of the whole catalogue.

        Args:
            window: L, how many of the newest interactions a user's vector is made from.
            catalogue: any features, since the vectors are made from embeddings that are given.
            first_row: what noise is keyed by.
        """
        items = np.full((len(self), window), -1, dtype=np.int64)
        times = np.zeros_like(items)
        # Position of each interaction counted from its user's end.
        age = np.repeat(self.offsets[1:], self.lengths) - np.arange(len(self.rows))
        user = np.repeat(np.arange(len(self)), self.lengths)
        newest = age <= window
        places = user[newest], window - age[newest]
        items[places], times[places] = self.rows[newest], self.times[newest]
        return SequenceBatch(
            catalogue=catalogue,
            items=torch.from_numpy(items),
            times=torch.from_numpy(times),
            targets=torch.full(items.shape, -1),
            target_share=1.0,
            negatives=0,
            log_expected=torch.zeros(0),
            first_row=first_row,
            step=0,
            size=len(self),
        )

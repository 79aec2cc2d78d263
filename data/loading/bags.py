"""Bags of ids: the values of one multi-valued field or sequence over many rows, in numpy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dropdrift.data.ragged import end_to_end


@dataclass(frozen=True, eq=False)
class Bags:
    """The ids of one multi-valued field or sequence.

    Attributes:
        offsets: int64 [R + 1], ascending; row r holds ``values[offsets[r]:offsets[r + 1]]``.
        values: int32 [V].
    """

    offsets: NDArray[np.int64]
    values: NDArray[np.int32]

    @staticmethod
    def from_lengths(lengths: NDArray[np.int64], values: NDArray[np.int32]) -> Bags:
        """Bags of ``lengths`` [R] ids each, in the order of ``values``."""
        offsets = np.zeros(len(lengths) + 1, dtype=np.int64)
        np.cumsum(lengths, out=offsets[1:])
        return Bags(offsets, values)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Number of ids in each row, int64 [R]."""
        return np.diff(self.offsets)

    @property
    def ids(self) -> NDArray[np.int32]:
        """The ids of all rows, in order."""
        return self.values[self.offsets[0] : self.offsets[-1]]

    def slice(self, start: int, stop: int) -> Bags:
        """Rows ``start`` to ``stop``, without a copy."""
        return Bags(self.offsets[start : stop + 1], self.values)

    def take(self, rows: NDArray[np.int64]) -> Bags:
        """The rows at the positions ``rows``, in that order."""
        offsets, positions = end_to_end(self.offsets[rows], self.offsets[rows + 1])
        return Bags(offsets, self.values[positions])

    @staticmethod
    def concatenate(parts: Sequence[Bags]) -> Bags:
        """The rows of all ``parts``, one after the other."""
        lengths = np.concatenate([part.lengths for part in parts])
        return Bags.from_lengths(lengths, np.concatenate([part.ids for part in parts]))

"""Dropping rows that were there before."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)


class DuplicateFilter:
    """Keeps the first of each set of equal rows, over all batches that it is shown.

    It remembers a 64-bit hash of each row kept: 8 bytes a row, whatever its width. Two different
    rows are taken for equal with a probability of 2^-64 a pair: in a log of a hundred million rows
    one row is lost with a probability of 0.03%.
    """

    def __init__(self) -> None:
        self._seen = np.empty(0, dtype=np.uint64)

    def new_rows(self, batch: pa.RecordBatch) -> NDArray[np.int64]:
        """Positions of the rows of ``batch`` that were not there before, in order."""
        hashes, first = np.unique(_row_hashes(batch), return_index=True)
        if len(self._seen):
            nearest = np.minimum(np.searchsorted(self._seen, hashes), len(self._seen) - 1)
            fresh = self._seen[nearest] != hashes
            hashes, first = hashes[fresh], first[fresh]
        self._seen = np.union1d(self._seen, hashes)
        return np.sort(first)


def _row_hashes(batch: pa.RecordBatch) -> NDArray[np.uint64]:
    combined = np.zeros(batch.num_rows, dtype=np.uint64)
    for column in batch.columns:
        values = column.to_pandas().to_numpy()
        hashes = pd.util.hash_array(values, categorize=False)
        combined = (combined ^ hashes) * _MULTIPLIER
        combined ^= combined >> np.uint64(29)
    return combined

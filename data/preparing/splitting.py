"""Which part a row belongs to: training, validation or test, by time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dropdrift.data.preparing.reservoir import Reservoir
from dropdrift.data.source import DatasetSpec, FractionSplit, TimeSplit

PARTS = ("train", "validation", "test")
SAMPLE_SIZE = 1 << 20


@dataclass(frozen=True, eq=False)
class KeyedBatch:
    """Raw rows with what they are split by.

    Attributes:
        rows: the checked raw rows, B of them.
        keys: float64 [B], the time of each row, or its position in the stream where there is none.
    """

    rows: pa.RecordBatch
    keys: NDArray[np.float64]

    def parts(self, cut: TimeSplit) -> Iterator[tuple[int, pa.RecordBatch]]:
        """The rows of each part that has any, with the part's index in ``PARTS``."""
        bounds = [cut.validation_from, cut.test_from]
        numbers = np.searchsorted(bounds, self.keys, side="right")
        present = np.unique(numbers).tolist()
        for part in present:
            whole = len(present) == 1
            yield part, self.rows if whole else self.rows.filter(pa.array(numbers == part))


def keyed_batches(batches: Iterable[pa.RecordBatch], spec: DatasetSpec) -> Iterator[KeyedBatch]:
    """Each of the checked ``batches`` with its keys."""
    position = 0
    for rows in batches:
        if spec.time:
            keys = rows.column(spec.time).to_numpy()
        else:
            keys = np.arange(position, position + rows.num_rows, dtype=np.float64)
        position += rows.num_rows
        yield KeyedBatch(rows, keys)


def fraction_cut(batches: Iterable[KeyedBatch], split: FractionSplit) -> TimeSplit:
    """Where to cut for the shares of ``split``, by quantiles of the keys.

    Exact up to a million rows, from a sample of a million of them above that. Of rows with one
    key, all go to the later part.
    """
    reservoir = Reservoir(SAMPLE_SIZE, np.random.default_rng(0))
    for batch in batches:
        reservoir.add(batch.keys)
    keys = reservoir.sorted_sample()
    assert len(keys), "a pass without rows is an error"
    test = max(1, round(len(keys) * split.test))
    validation = max(1, round(len(keys) * split.validation))
    last = len(keys) - 1
    return TimeSplit(
        validation_from=float(keys[max(0, last + 1 - test - validation)]),
        test_from=float(keys[last + 1 - test]),
    )

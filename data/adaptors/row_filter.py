"""Which rows of a log are wanted, by the values of their columns."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from dropdrift.data.encoding.values import as_texts

Kept = Mapping[str, tuple[str, ...]]


def kept_rows(batch: pa.RecordBatch, kept: Kept) -> NDArray[np.bool_]:
    """The rows whose columns hold one of the values that ``kept`` names for each, bool [R].

    Values are compared as text (see ``as_texts``): 1, 1.0 and "1" are one value. A row without a
    value in such a column is not wanted.

    Raises:
        ValueError: a column holds lists.
    """
    wanted = np.ones(batch.num_rows, dtype=bool)
    for column, values in kept.items():
        try:
            texts = as_texts(batch.column(column))
        except ValueError as error:
            raise ValueError(f"column {column!r} {error}, so no row can be kept by it") from error
        listed = pc.is_in(texts.values, value_set=as_texts(pa.array(values)).values)
        # The last entry is what code -1 (no value) finds.
        wanted &= np.append(listed.to_numpy(zero_copy_only=False), False)[texts.codes]
    return wanted


def condition(kept: Kept) -> str:
    """``kept`` in words, such as ``is_click is 1 and tab is 1 or 2``; empty where all are kept."""
    return " and ".join(f"{column} is {' or '.join(values)}" for column, values in kept.items())

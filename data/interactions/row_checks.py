"""Holds the columns of a batch against what is expected of them, row by row.

Shapes: R rows of the batch.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from dropdrift.data.encoding.values import Texts, as_numbers, as_texts
from dropdrift.data.quarantine import BadRows

# int64, or float64 where times came as floats or as text.
Times = NDArray[Any]

# Times are stored as 64-bit integers.
_LATEST = 2.0**63


class RowChecks:
    """Reads columns of one batch and sets bad rows aside.

    Every method raises ValueError where the column is absent or of a wrong type, or a row is bad in
    strict mode.

    Args:
        batch: the rows.
        origin: what they are rows of, for messages.
        first_row: the number of the batch's first row in the stream.
        bad_rows: takes the rows that cannot be read.

    Attributes:
        good: the rows that were not set aside, bool [R].
    """

    def __init__(
        self, batch: pa.RecordBatch, origin: str, first_row: int, bad_rows: BadRows
    ) -> None:
        self._batch = batch
        self._origin = origin
        self._first_row = first_row
        self._bad_rows = bad_rows
        self.good = np.ones(batch.num_rows, dtype=bool)

    def column(self, name: str) -> pa.Array:
        """The column as it is."""
        if name not in self._batch.schema.names:
            found = ", ".join(self._batch.schema.names)
            raise ValueError(f"{self._origin}: no column {name!r}; there are {found}")
        return self._batch.column(name)

    def keys(self, name: str, role: str) -> Texts:
        """The text form of each row; a row without one is bad."""
        column = self.column(name)
        try:
            texts = as_texts(column)
        except ValueError as error:
            raise ValueError(f"{self._origin}: column {name!r} {error}") from error
        self._set_aside(texts.codes < 0, f"column {name!r}, the {role}, is missing")
        return texts

    def titles(self, name: str) -> pa.Array:
        """Text without blanks around it, string [R]; null where there is none."""
        column = self.column(name)
        try:
            texts = pc.utf8_trim_whitespace(column.cast(pa.string()))
        except (pa.ArrowNotImplementedError, pa.ArrowInvalid) as error:
            raise ValueError(
                f"{self._origin}: column {name!r} has type {column.type}, which has no text form"
            ) from error
        return pc.if_else(pc.equal(texts, ""), None, texts)

    def numbers(self, name: str, missing_codes: tuple[str, ...] = ()) -> NDArray[np.float64]:
        """The number of each row [R], NaN where missing; a row with other text is bad."""
        column = self.column(name)
        try:
            numbers, wrong = as_numbers(column, missing_codes)
        except ValueError as error:
            raise ValueError(f"{self._origin}: column {name!r} {error}") from error
        self._set_aside(wrong, f"column {name!r} holds no number", column)
        return numbers

    def times(self, name: str) -> Times:
        """The time of each row [R]; a row without one, or beyond 64 bits, is bad."""
        column = self.column(name)
        missing_time = f"column {name!r}, the time, is missing"
        if pa.types.is_integer(column.type) and not pa.types.is_uint64(column.type):
            self._set_aside(column.is_null().to_numpy(zero_copy_only=False), missing_time)
            whole: NDArray[np.int64] = pc.fill_null(column.cast(pa.int64()), 0).to_numpy()
            return whole
        numbers = self.numbers(name)
        self._set_aside(np.isnan(numbers), missing_time)
        far = np.abs(np.nan_to_num(numbers)) >= _LATEST
        self._set_aside(far, f"column {name!r} holds a time beyond 64 bits", column)
        return numbers

    def _set_aside(
        self, bad: NDArray[np.bool_], reason: str, column: pa.Array | None = None
    ) -> None:
        for row in np.flatnonzero(bad & self.good).tolist():
            value = "" if column is None else str(column[row].as_py())
            self._bad_rows.add(self._origin, self._first_row + row, reason, value)
        self.good &= ~bad

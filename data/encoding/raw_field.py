"""The raw values of one field: bags of texts or of numbers, before they are ids.

Fitting and encoding both read a column through here, so that they agree on what is missing and on
what a long bag keeps.

Shapes: R rows, V values of all rows, U distinct values.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from dropdrift.data.encoding.values import Texts, as_numbers, as_texts
from dropdrift.data.schema import Field


@dataclass(frozen=True, eq=False)
class RawTexts:
    """The texts of a field.

    Attributes:
        lengths: int64 [R], number of values in each row.
        values: string [U]; the same text may occur twice.
        codes: int64 [V], index into ``values`` of each value, in row order.
    """

    lengths: NDArray[np.int64]
    values: pa.StringArray
    codes: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class RawNumbers:
    """The numbers of a numeric field.

    Attributes:
        lengths: int64 [R], 1 where the row has a number, else 0.
        numbers: float64 [V].
        wrong: bool [R], the rows with text that is no number.
    """

    lengths: NDArray[np.int64]
    numbers: NDArray[np.float64]
    wrong: NDArray[np.bool_]


def raw_numbers(column: pa.Array, field: Field) -> RawNumbers:
    """The numbers of ``column``; ValueError where its type holds none."""
    try:
        numbers, wrong = as_numbers(column, field.missing_codes)
    except ValueError as error:
        raise ValueError(f"column {field.name!r} {error}, but the field is numeric") from error
    present = ~np.isnan(numbers)
    return RawNumbers(present.astype(np.int64), numbers[present], wrong)


def raw_texts(column: pa.Array, field: Field) -> RawTexts:
    """The texts of ``column``, at most ``max_length`` a row; ValueError where it has none."""
    try:
        items, rows = _items(column, field) if field.is_bag else (column, np.arange(len(column)))
        texts = as_texts(items, field.missing_codes)
    except ValueError as error:
        raise ValueError(f"column {field.name!r} {error}, the field is {field.kind}") from error
    return _bags(texts, rows, len(column), field)


def _items(column: pa.Array, field: Field) -> tuple[pa.Array, NDArray[np.int64]]:
    """The items of all rows, missing ones included, and the row of each."""
    if field.separator and not pa.types.is_nested(column.type):
        column = pc.split_pattern(_text(column), field.separator)
    if pa.types.is_list(column.type) or pa.types.is_large_list(column.type):
        rows = pc.list_parent_indices(column).to_numpy().astype(np.int64)
        return pc.list_flatten(column), rows
    return column, np.arange(len(column))


def _text(column: pa.Array) -> pa.StringArray:
    try:
        return column.cast(pa.string())
    except (pa.ArrowNotImplementedError, pa.ArrowInvalid) as error:
        raise ValueError(f"has type {column.type}, which has no text form") from error


def _bags(texts: Texts, rows: NDArray[np.int64], total: int, field: Field) -> RawTexts:
    present = texts.codes >= 0
    rows, codes = rows[present], texts.codes[present]
    lengths = np.bincount(rows, minlength=total)
    if len(codes) and lengths.max() > field.max_length:
        place = np.arange(len(codes)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        if field.kind == "sequence":
            place = lengths[rows] - 1 - place
        codes = codes[place < field.max_length]
        lengths = np.minimum(lengths, field.max_length)
    return RawTexts(lengths, texts.values, codes)

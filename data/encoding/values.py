"""Raw values of an Arrow column as text or as numbers, the same whatever file they came from.

An id that is text in a CSV file, an integer in one Parquet file and a float in another (pandas
makes floats of integers as soon as one is missing) has one text form, so one id.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

# The largest magnitude below which every integral float is exact.
_EXACT_INTEGERS = 2.0**53


@dataclass(frozen=True)
class Texts:
    """A column as text, stored once per distinct value.

    Attributes:
        values: string [U], without nulls; the same text may occur twice.
        codes: int64 [rows], index into ``values`` or -1 where the row is missing.
    """

    values: pa.StringArray
    codes: npt.NDArray[np.int64]


def as_texts(column: pa.Array | pa.ChunkedArray, missing_codes: Collection[str] = ()) -> Texts:
    """The text form of each row of ``column``.

    Integers are decimal digits; floats with an integral value, and text that looks like one
    ("4.0"), are the integer; other floats are in the shortest form that reads back; text is
    stripped. Null, NaN, infinities, the empty text and ``missing_codes`` are missing.

    Raises:
        ValueError: the column's type has no text form (a list).
    """
    array = _array(column)
    try:
        encoded = array if pa.types.is_dictionary(array.type) else array.dictionary_encode()
        values = _text_values(encoded.dictionary)
    except (pa.ArrowNotImplementedError, pa.ArrowInvalid) as error:
        raise ValueError(f"has type {array.type}, which has no text form") from error
    if missing_codes:
        absent = _text_values(pa.array(sorted(missing_codes), pa.string()))
        values = pc.if_else(pc.is_in(values, value_set=absent), None, values)
    known = values.is_valid().to_numpy(zero_copy_only=False)
    # One more entry than there are values, so that code -1 (null) finds -1.
    positions = np.append(np.where(known, np.cumsum(known) - 1, -1), -1)
    codes = pc.fill_null(encoded.indices.cast(pa.int64()), -1).to_numpy()
    return Texts(values.drop_null(), positions[codes])


def as_numbers(
    column: pa.Array | pa.ChunkedArray, missing_codes: Collection[str] = ()
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    """The number in each row of ``column``, and which rows hold text that is no number.

    Null, infinities, the empty text and ``missing_codes``, numbers or not, are missing.

    Returns:
        float64 [rows], NaN where missing or no number; bool [rows], true where there is text that
        does not parse as a number.

    Raises:
        ValueError: the column's type holds no numbers (a list, a timestamp).
    """
    array = _array(column)
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    if _is_text(array.type):
        numbers, wrong = _parsed(array, missing_codes)
    elif _is_number(array.type):
        numbers, wrong = _floats(array), np.zeros(len(array), dtype=bool)
    else:
        raise ValueError(f"has type {array.type}, which holds no numbers")
    if missing_codes:
        absent, _ = _parsed(pa.array(sorted(missing_codes), pa.string()))
        numbers[np.isin(numbers, absent)] = np.nan
    return numbers, wrong


def _array(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column


def _is_text(kind: pa.DataType) -> bool:
    # By name: older versions of Arrow know no views.
    return str(kind) in ("string", "large_string", "string_view")


def _is_number(kind: pa.DataType) -> bool:
    tests = (pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean, pa.types.is_decimal)
    return pa.types.is_null(kind) or any(test(kind) for test in tests)


def _floats(array: pa.Array) -> npt.NDArray[np.float64]:
    floats = array.cast(pa.float64(), safe=False)
    numbers = np.array(floats.to_numpy(zero_copy_only=False), dtype=np.float64)
    numbers[~np.isfinite(numbers)] = np.nan
    return numbers


def _parsed(
    array: pa.Array, missing_codes: Collection[str] = ()
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.bool_]]:
    try:
        return _floats(array), np.zeros(len(array), dtype=bool)
    except pa.ArrowInvalid:  # blanks around a number, or no number: look at each distinct text
        texts = as_texts(array, missing_codes)
    numbers = np.full(len(texts.values) + 1, np.nan)
    wrong = np.zeros(len(texts.values) + 1, dtype=bool)
    for position, text in enumerate(texts.values.to_pylist()):
        try:
            numbers[position] = float(text)
        except ValueError:
            wrong[position] = True
        wrong[position] |= "_" in text  # float() takes "1_000", files mean something else
    numbers[wrong | ~np.isfinite(numbers)] = np.nan
    return numbers[texts.codes], wrong[texts.codes]


def _text_values(values: pa.Array) -> pa.StringArray:
    if pa.types.is_floating(values.type):
        return _texts_of_floats(values)
    texts = pc.utf8_trim_whitespace(values.cast(pa.string()))
    texts = pc.replace_substring_regex(texts, pattern=r"^(-?\d+)\.0+$", replacement=r"\1")
    return pc.if_else(pc.equal(texts, ""), None, texts)


def _texts_of_floats(values: pa.Array) -> pa.StringArray:
    numbers = values.to_numpy(zero_copy_only=False)
    integral = np.isfinite(numbers) & (np.abs(numbers) < _EXACT_INTEGERS)
    integral &= np.floor(numbers, where=integral, out=np.zeros_like(numbers)) == numbers
    integers = np.where(integral, numbers, 0).astype(np.int64)
    texts = pa.array(integers, mask=~integral).cast(pa.string())
    if integral.all():
        return texts
    others = pa.array([_text_of_float(n) for n in numbers[~integral]], pa.string())
    return pc.replace_with_mask(texts, pa.array(~integral), others)


def _text_of_float(number: np.floating) -> str | None:
    if not np.isfinite(number):
        return None
    return str(int(number)) if number.is_integer() else str(number)

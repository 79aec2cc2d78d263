import datetime
import decimal
import math

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dropdrift.data.encoding.values import as_numbers, as_texts


def texts_of(column: pa.Array, *missing_codes: str) -> list[str | None]:
    texts = as_texts(column, missing_codes)
    values = [*texts.values.to_pylist(), None]
    return [values[code] for code in texts.codes]


@given(st.lists(st.one_of(st.none(), st.integers(-(2**52), 2**52))))
def test_an_integer_has_one_text_in_every_type(values: list[int | None]) -> None:
    expected = [None if v is None else str(v) for v in values]
    column = pa.array(values, pa.int64())
    floats = pa.array([math.nan if v is None else float(v) for v in values], pa.float64())
    strings = pa.array(["" if v is None else f" {v} " for v in values], pa.string())
    pointed = pa.array([None if v is None else f"{v}.0" for v in values], pa.large_string())
    for same in (column, floats, strings, pointed, column.dictionary_encode()):
        assert texts_of(same) == expected
    assert texts_of(pa.chunked_array([column, column])) == expected * 2


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False)))
def test_a_float_has_the_text_that_reads_back(values: list[float]) -> None:
    assert [float(t or "") for t in texts_of(pa.array(values, pa.float64()))] == values


def test_texts_of_other_types() -> None:
    assert texts_of(pa.array([0.1, 4.0, 1e20, math.inf, None], pa.float32())) == [
        "0.1", "4", "100000002004087734272", None, None,
    ]  # fmt: skip
    assert texts_of(pa.array([decimal.Decimal("4.00"), None])) == ["4", None]
    assert texts_of(pa.array([True, False, None])) == ["true", "false", None]
    assert texts_of(pa.array([datetime.date(2022, 4, 25)])) == ["2022-04-25"]
    assert texts_of(pa.nulls(2)) == [None, None]
    assert texts_of(pa.array([], pa.string())) == []
    assert texts_of(pa.array(["v1.0", "1.05", "a b ", "1.00"])) == ["v1.0", "1.05", "a b", "1"]


def test_missing_codes_are_compared_as_text() -> None:
    assert texts_of(pa.array([-124, 1, None]), "-124") == [None, "1", None]
    assert texts_of(pa.array(["-124.0", "UNKNOWN", "x"]), "-124", "UNKNOWN") == [None, None, "x"]


def test_numbers_and_texts_that_are_none() -> None:
    numbers, wrong = as_numbers(pa.array(["1", " 2.5 ", "", None, "x", "1_0", "inf", "nan"]))
    np.testing.assert_array_equal(numbers, [1, 2.5, *[math.nan] * 6])
    assert wrong.tolist() == [False, False, False, False, True, True, False, False]
    for column in (
        pa.array([1, None, 3]),
        pa.array([1.0, math.nan, 3.0]),
        pa.array(["1", "", "3"]),
    ):
        numbers, wrong = as_numbers(column)
        np.testing.assert_array_equal(numbers, [1, math.nan, 3])
        assert not wrong.any()
    assert as_numbers(pa.array(["7"]).dictionary_encode())[0].tolist() == [7]
    assert as_numbers(pa.array([True, False]))[0].tolist() == [1, 0]
    assert np.isnan(as_numbers(pa.nulls(2))[0]).all()


def test_a_list_holds_no_numbers() -> None:
    with pytest.raises(ValueError, match="type list<item: int64>, which holds no numbers"):
        as_numbers(pa.array([[1]]))

import dataclasses
from collections.abc import Iterator

import pyarrow as pa
import pytest

from dropdrift.data.preparing.checks import checked_batches, unfitted_schema
from dropdrift.data.quarantine import BadRows
from dropdrift.data.source import DatasetSpec, FieldSpec, FractionSplit, TimeSplit

CITY = FieldSpec("city", "categorical", "vocabulary")
PRICE = FieldSpec("price", "numeric", "buckets", size=8, missing_codes=("NA",))
SPEC = DatasetSpec("toy", (CITY, PRICE), ("click",), TimeSplit(10, 20), user="who", time="when")
ROWS = {
    "city": ["oslo", "rome"],
    "price": ["1.5", "NA"],
    "click": [1, None],
    "who": [7, 8],
    "when": ["5", "15"],
    "other": [0, 0],
}


class Listed:
    """A source of given batches."""

    def __init__(self, *batches: dict[str, object], spec: DatasetSpec = SPEC) -> None:
        self.spec = spec
        self.total_rows = None
        self._batches = batches

    def batches(self, bad_rows: BadRows) -> Iterator[pa.RecordBatch]:  # noqa: ARG002  # protocol
        for batch in self._batches:
            yield pa.RecordBatch.from_pydict(batch)


def checked(source: Listed, bad_rows: BadRows | None = None) -> list[dict[str, list[object]]]:
    return [batch.to_pydict() for batch in checked_batches(source, bad_rows or BadRows())]


def test_columns_are_selected_and_typed() -> None:
    (batch,) = checked_batches(Listed(ROWS), BadRows())
    assert batch.to_pydict() == {
        "city": ["oslo", "rome"],
        "price": [1.5, None],
        "click": [1, None],
        "who": [7, 8],
        "when": [5.0, 15.0],
    }
    types = [str(batch.schema.field(name).type) for name in ("price", "click", "when")]
    assert types == ["double", "int8", "double"]


def test_bad_rows_are_set_aside_under_their_number_in_the_stream() -> None:
    later = ROWS | {"price": ["x", "2"], "when": ["1", None]}
    bad_rows = BadRows("quarantine")
    first, second = checked(Listed(ROWS, later), bad_rows)
    assert first["city"] == ["oslo", "rome"]
    assert second["city"] == []
    assert bad_rows.reasons == {
        "column 'price' holds no number": 1,
        "column 'when', the time, is missing": 1,
    }
    with pytest.raises(ValueError, match=r"data set 'toy', row 3: column 'price' .*\('x'\)"):
        checked(Listed(ROWS, later))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"click": [0, 2]}, "data set 'toy', row 2: label 'click' is 2, must be 0, 1 or missing"),
        ({"click": [0.5, 1]}, "row 1: label 'click' is 0.5"),
        ({"price": [[1], [2]]}, "data set 'toy': column 'price' has type list<item: int64>"),
        ({"when": [[1], [2]]}, "data set 'toy': column 'when' has type list<item: int64>"),
    ],
)
def test_wrong_labels_and_types_are_named(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        checked(Listed(ROWS | change))


@pytest.mark.parametrize("column", ["city", "price", "click", "who", "when"])
def test_a_missing_column_is_named(column: str) -> None:
    rows = {name: values for name, values in ROWS.items() if name != column}
    with pytest.raises(ValueError, match=f"data set 'toy' has no column '{column}'; it has "):
        checked(Listed(rows))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"fields": (CITY, CITY)}, "field 'city' is listed 2 times"),
        ({"fields": ()}, "has no field"),
        ({"labels": ()}, "has no label"),
        ({"labels": ("city",)}, "'city' is both a field and a label"),
        ({"labels": ("who",)}, "a label is also the column of the user or of the time"),
        ({"time": ""}, "validation_from and test_from need a time column"),
        ({"split": TimeSplit(20, 10)}, "validation_from 20 is not before test_from 10"),
        ({"split": FractionSplit(0.5, 0.5)}, "shares of the rows that leave some for training"),
        ({"split": FractionSplit(0.0, 0.5)}, "validation 0.0 and test 0.5 must be positive"),
    ],
)
def test_a_spec_that_contradicts_itself_is_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        unfitted_schema(dataclasses.replace(SPEC, **change))  # type: ignore[arg-type]  # by name


@pytest.mark.parametrize(
    ("field", "message"),
    [
        (FieldSpec("x", "numeric", "hash", size=10), "'x' is numeric and has encoding 'hash'"),
        (FieldSpec("x", "multi", "buckets", size=10), "'x' is multi and has encoding 'buckets'"),
        (FieldSpec("x", "categorical", "hash", size=1), "'x': size is 1, must be at least 2"),
        (FieldSpec("x", "categorical", "vocabulary", max_length=3), "max_length 1, not 3"),
        (FieldSpec("x", "categorical", "vocabulary", width=0), "width is 0"),
        (FieldSpec("x", "categorical", "vocabulary", width=6), "must be a positive multiple of 4"),
        (FieldSpec("a/x", "categorical", "vocabulary"), "table name 'a/x' is no file name"),
        (
            FieldSpec("x", "categorical", "vocabulary", table="city", width=8),
            "fields 'city' and 'x' share table 'city' but differ in width: 16 and 8",
        ),
    ],
)
def test_a_field_that_cannot_be_is_refused(field: FieldSpec, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        unfitted_schema(dataclasses.replace(SPEC, fields=(CITY, field)))

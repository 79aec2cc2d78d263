from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from dropdrift.data.batch import Batch
from dropdrift.data.loading.block import ColumnBlock, cut
from dropdrift.data.schema import Encoding, Field, Schema, Table

ORIGIN = Path("some.parquet")
ROWS = 9
SCHEMA = Schema(
    name="test",
    # Bag fields between single-valued ones: the order of the keys is not that of the schema.
    fields=(
        Field("a", "categorical", "x"),
        Field("tags", "multi", "y", max_length=4),
        Field("b", "numeric", "x"),
        Field("history", "sequence", "x", max_length=4),
    ),
    tables=(Table("x", ROWS, 4, Encoding("hash")), Table("y", ROWS, 4, Encoding("hash"))),
    labels=("click", "like"),
    has_user=True,
)

ids = st.integers(0, ROWS - 1)
bags = st.none() | st.lists(ids, max_size=4)
labels = st.none() | st.integers(0, 1)
row = st.fixed_dictionaries(
    {
        "a": st.none() | ids,
        "b": st.none() | ids,
        "tags": bags,
        "history": bags,
        "label:click": labels,
        "label:like": labels,
        ":user": st.integers(0, 2**62),
    }
)
TYPES = pa.schema(
    [
        ("a", pa.int32()),
        ("b", pa.int32()),
        ("tags", pa.list_(pa.int32())),
        ("history", pa.list_(pa.int32())),
        ("label:click", pa.int8()),
        ("label:like", pa.int8()),
        (":user", pa.int64()),
    ]
)

Row = dict[str, Any]


def table(rows: list[Row]) -> pa.Table:
    return pa.Table.from_pylist(rows, schema=TYPES)


def block(rows: list[Row]) -> ColumnBlock:
    return ColumnBlock.from_table(table(rows), SCHEMA, ORIGIN)


def rows_of(batch: Batch) -> list[Row]:
    """The batch read back row by row, as slowly as can be."""
    if not batch.rows:
        return []
    features = batch.features.to_dict()
    result = []
    for index in range(batch.rows):
        found: Row = {}
        for name, jagged in features.items():
            start, stop = jagged.offsets()[index : index + 2].tolist()
            found[name] = jagged.values()[start:stop].tolist()
        for name, label in zip(SCHEMA.labels, batch.labels[index].tolist(), strict=True):
            found[f"label:{name}"] = None if np.isnan(label) else int(label)
        found[":user"] = int(batch.users[index])
        result.append(found)
    return result


def expected(rows: list[Row]) -> list[Row]:
    """What a batch of ``rows`` should be read back as."""
    return [
        {
            **row,
            "a": [] if row["a"] is None else [row["a"]],
            "b": [] if row["b"] is None else [row["b"]],
            "tags": row["tags"] or [],
            "history": row["history"] or [],
        }
        for row in rows
    ]


FILLING: Row = {"a": None, "b": None, "tags": None, "history": None}
FILLING |= {"label:click": None, "label:like": None, ":user": 0}


@given(rows=st.lists(row, max_size=12), filling=st.integers(0, 3))
def test_batch_holds_the_rows_and_then_filling(rows: list[Row], filling: int) -> None:
    batch = block(rows).batch(step=5, first_row=7, rows=len(rows) + filling)
    assert rows_of(batch) == expected(rows + [FILLING] * filling)
    assert (batch.step, batch.first_row, batch.size) == (5, 7, len(rows))


@given(data=st.data(), parts=st.lists(st.lists(row, max_size=6), min_size=1, max_size=4))
def test_slice_concatenate_and_gather_are_those_of_a_list(
    data: st.DataObject, parts: list[list[Row]]
) -> None:
    cuts = [sorted(data.draw(st.tuples(*[st.integers(0, 7)] * 2))) for _ in parts]
    pieces = [block(part).slice(*cut) for part, cut in zip(parts, cuts, strict=True)]
    rows = [row for part, cut in zip(parts, cuts, strict=True) for row in part[slice(*cut)]]
    assert rows_of(ColumnBlock.concatenate(pieces).batch()) == expected(rows)
    order = data.draw(st.lists(st.integers(0, len(rows) - 1)) if rows else st.just([]))
    gathered = ColumnBlock.gather(pieces, np.array(order, dtype=np.int64))
    assert rows_of(gathered.batch()) == expected([rows[index] for index in order])


@given(parts=st.lists(st.lists(row, max_size=6), max_size=4), size=st.integers(1, 5))
def test_cut_keeps_the_rows_in_order(parts: list[list[Row]], size: int) -> None:
    pieces = list(cut((block(part) for part in parts), size))
    rows = [row for part in parts for row in part]
    assert [row for piece in pieces for row in rows_of(piece.batch())] == expected(rows)
    assert all(len(piece) == size for piece in pieces[:-1])


@given(rows=st.lists(row, max_size=7), size=st.integers(1, 4))
def test_batches_of_a_block_to_be_scored(rows: list[Row], size: int) -> None:
    batches = list(block(rows).batches(size))
    assert [row for batch in batches for row in rows_of(batch)] == expected(rows)
    assert [batch.size for batch in batches] == [batch.rows for batch in batches]


@given(rows=st.lists(row, min_size=2, max_size=8), at=st.integers(1, 7))
def test_from_table_reads_chunks_and_slices(rows: list[Row], at: int) -> None:
    whole = table(rows)
    chunked = pa.concat_tables([whole.slice(0, at), whole.slice(at)])
    assert rows_of(ColumnBlock.from_table(chunked, SCHEMA, ORIGIN).batch()) == expected(rows)
    sliced = ColumnBlock.from_table(whole.slice(1), SCHEMA, ORIGIN)
    assert rows_of(sliced.batch()) == expected(rows[1:])


def full_row(**changes: object) -> Row:
    return {**FILLING, "a": 1, "b": 2, "tags": [3], "history": [4, 5], ":user": 6, **changes}


def test_an_empty_block_adds_nothing() -> None:
    empty = ColumnBlock.empty(SCHEMA)
    assert len(empty) == 0
    assert rows_of(empty.batch(rows=2)) == expected([FILLING] * 2)
    both = ColumnBlock.concatenate([empty, block([full_row()]), empty])
    assert rows_of(both.batch()) == expected([full_row()])


def test_a_missing_feature_is_a_bag_of_length_zero() -> None:
    features = block([full_row(a=None, tags=None), full_row(tags=[])]).batch().features
    assert features["a"].lengths().tolist() == [0, 1]
    assert features["tags"].lengths().tolist() == [0, 0]
    assert features["history"].lengths().tolist() == [2, 2]


def test_types_are_what_torchrec_reads() -> None:
    batch = block([full_row(), full_row(a=None)]).batch(rows=3)
    assert batch.features.values().dtype == torch.int64
    assert batch.features.lengths().dtype == torch.int32
    assert batch.features.stride() == 3
    assert batch.features.length_per_key() == [1, 2, 2, 4]
    assert batch.labels.dtype == torch.float32
    assert batch.users.dtype == torch.int64


def test_a_batch_shares_no_memory_with_its_block() -> None:
    source = block([full_row()])
    batch = source.batch()
    source.ids[:], source.labels[:] = 0, 0
    assert rows_of(batch) == expected([full_row()])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"a": ROWS}, "some.parquet: field 'a' holds id 9, table 'x' has ids 0 to 8"),
        ({"b": -1}, "some.parquet: field 'b' holds id -1, table 'x' has ids 0 to 8"),
        ({"tags": [0, 70]}, "some.parquet: field 'tags' holds id 70, table 'y' has ids 0 to 8"),
        ({"history": [-3]}, "some.parquet: field 'history' holds id -3, table 'x'"),
        ({"tags": [1, None]}, "some.parquet: field 'tags' holds a list with a null in it"),
    ],
)
def test_ids_that_are_no_rows_of_the_table(changes: Row, message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        block([full_row(a=None, b=None), full_row(**changes)])
    assert "\n" not in str(error.value)


def test_a_negative_id_is_not_taken_for_a_missing_one_among_nulls() -> None:
    with pytest.raises(ValueError, match="field 'a' holds id -1"):
        block([full_row(a=None), full_row(a=-1)])


@pytest.mark.parametrize("column", TYPES.names)
def test_a_column_that_is_absent(column: str) -> None:
    with pytest.raises(ValueError, match=f"some.parquet: no column '{column}'"):
        ColumnBlock.from_table(table([full_row()]).drop_columns(column), SCHEMA, ORIGIN)


@pytest.mark.parametrize(
    ("column", "kind", "message"),
    [
        ("a", pa.float32(), "column 'a' is float, the schema wants int32"),
        ("tags", pa.list_(pa.int64()), "column 'tags' is list<int64>, the schema wants list<int32"),
        ("label:like", pa.int64(), "column 'label:like' is int64, the schema wants int8"),
    ],
)
def test_a_column_of_another_type(column: str, kind: pa.DataType, message: str) -> None:
    index = TYPES.get_field_index(column)
    wrong = table([full_row()]).cast(TYPES.set(index, pa.field(column, kind)))
    with pytest.raises(ValueError, match=message):
        ColumnBlock.from_table(wrong, SCHEMA, ORIGIN)


def test_labels_and_users_may_be_absent_where_rows_are_only_scored() -> None:
    bare = table([full_row(**{"label:click": 1})]).drop_columns(["label:like", ":user"])
    batch = ColumnBlock.from_table(bare, SCHEMA, ORIGIN, require_targets=False).batch()
    assert rows_of(batch) == expected([full_row(**{"label:click": 1, ":user": 0})])
    with pytest.raises(ValueError, match="no column 'a'"):
        ColumnBlock.from_table(bare.drop_columns("a"), SCHEMA, ORIGIN, require_targets=False)

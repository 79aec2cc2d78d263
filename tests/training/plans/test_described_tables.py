"""Tables that are described rather than prepared: what they become, and what is refused."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from dropdrift.data.schema import Field, Schema
from dropdrift.training.plans.described_tables import described_schema, read_tables


def schema_of(*entries: dict[str, Any]) -> Schema:
    return described_schema("described", read_tables(list(entries)), ("click",))


def test_an_entry_is_one_table_and_its_field() -> None:
    schema = schema_of(
        {"name": "user_id", "rows": 1_000, "width": 64, "group": "user", "identifier": True},
        {"name": "tags", "rows": 50, "width": 8, "ids": 2.5, "pooling": "sum", "why": "few"},
        {"name": "place", "rows": 40, "width": 4, "ids": 0.75},
    )
    assert [(t.name, t.rows, t.width, t.pooling) for t in schema.tables] == [
        ("user_id", 1_000, 64, "mean"),
        ("tags", 50, 8, "sum"),
        ("place", 40, 4, "mean"),
    ]
    assert {t.encoding.kind for t in schema.tables} == {"hash"}
    assert schema.fields == (
        Field("user_id", "categorical", "user_id", group="user", identifier=True),
        Field("tags", "multi", "tags", max_length=3, pooling_factor=2.5),
        Field("place", "categorical", "place", missing_rate=0.25, pooling_factor=0.75),
    )
    assert schema.labels == ("click",)
    assert schema.has_user


def test_tables_that_are_alike_are_numbered_in_order() -> None:
    schema = schema_of(
        {"name": "stat", "count": 40, "rows": 102, "width": 16, "group": "item"},
        {"name": "last", "count": 10, "rows": 7, "width": 4, "ids": 3},
    )
    numbers = [*(f"{tens}{ones}" for tens in "0123" for ones in "0123456789")]
    expected = [*(f"stat_{n}" for n in numbers), *(f"last_{n}" for n in "0123456789")]
    assert [table.name for table in schema.tables] == expected
    assert list(schema.field_names) == expected
    assert all(field.table == field.name for field in schema.fields)
    assert sum(table.rows for table in schema.tables) == 40 * 102 + 10 * 7
    assert sum(field.pooling_factor for field in schema.fields) == 40 * 1 + 10 * 3
    assert not schema.has_user


def test_fields_share_a_table() -> None:
    fields = {"song_id": 1, "recent_songs": 50, "first_song": 0.5}
    entry = {"name": "songs", "rows": 10_000, "width": 32, "group": "item", "fields": fields}
    schema = schema_of(entry)
    assert [table.name for table in schema.tables] == ["songs"]
    assert [(f.name, f.kind, f.max_length, f.pooling_factor) for f in schema.fields] == [
        ("song_id", "categorical", 1, 1),
        ("recent_songs", "multi", 50, 50),
        ("first_song", "categorical", 1, 0.5),
    ]
    assert {(f.table, f.group) for f in schema.fields} == {("songs", "item")}


def test_interactions_have_times_and_no_labels() -> None:
    tables = read_tables([{"name": "item_id", "rows": 100, "width": 8, "group": "item"}])
    schema = described_schema("catalogue", tables, (), "interactions")
    assert (schema.kind, schema.has_time, schema.labels) == ("interactions", True, ())
    with pytest.raises(ValueError, match="holds interactions and has labels"):
        described_schema("catalogue", tables, ("click",), "interactions")
    with pytest.raises(ValueError, match="has no label"):
        described_schema("catalogue", tables, ())


def test_a_described_schema_is_a_schema_like_others(tmp_path: Path) -> None:
    schema = schema_of({"name": "song", "rows": 9, "width": 4, "fields": {"a": 1, "b": 7.5}})
    schema.save(tmp_path)
    assert Schema.load(tmp_path) == schema


TABLE = {"name": "c00", "rows": 100, "width": 8}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"count": 0}, "table 'c00': count is 0, must be positive"),
        ({"count": 10_001}, "table 'c00': count is 10,001, must be at most 10,000"),
        ({"count": 2.5}, "table 'c00': count is 2.5, must be of type int"),
        ({"ids": 0}, "table 'c00': ids is 0.0, must be a positive number"),
        ({"ids": -3}, "table 'c00': ids is -3.0, must be a positive number"),
        ({"ids": float("nan")}, "table 'c00': ids is nan, must be of type float"),
        ({"rows": 1}, "table 'c00': rows is 1, must be at least 2"),
        (
            {"rows": 2**31},
            "table 'c00': rows is 2147483648, but ids are 32-bit, so a table has at most "
            "2147483647 rows: hash the ids into so many or describe several tables, and say so in "
            "'why'",
        ),
        ({"rows": "4e9"}, "table 'c00': rows is '4e9', must be of type int"),
        ({"width": 30}, "table 'c00': width is 30, must be a positive multiple of 4"),
        ({"width": 0}, "table 'c00': width is 0, must be a positive multiple of 4"),
        ({"pooling": "max"}, "table 'c00': pooling is 'max', must be one of sum, mean"),
        ({"group": "users"}, "table 'c00': group is 'users', must be one of user, item, context"),
        ({"row": 3}, "table 'c00' has the unknown key 'row'; did you mean 'rows'?"),
        ({"fields": ["a"]}, "table 'c00': fields is ['a'], must be of type dict"),
        ({"fields": {"a": 0}}, "table 'c00': fields: a is 0, must be a positive number"),
        ({"fields": {"a": True}}, "table 'c00': fields: a is True, must be a positive number"),
        ({"fields": {"a": None}}, "table 'c00': fields: a is None, must be a positive number"),
        ({"fields": {7: 1}}, "table 'c00': fields names 7, which is no text: put it in quotes"),
        (
            {"fields": {"a": 1}, "ids": 3},
            "table 'c00': ids is 3 and fields says the ids of each field: leave ids out",
        ),
        (
            {"fields": {"a": 1, "b": 2}, "count": 2},
            "table 'c00': count is 2, but the fields a, b cannot belong to several tables",
        ),
    ],
)
def test_a_mistake_names_the_entry_and_the_value(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match="^" + re.escape(message)) as raised:
        read_tables([{**TABLE, **change}])
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (None, "tables is empty, must be a list of at least one table"),
        ([], "tables is empty, must be a list of at least one table"),
        ({"c00": 3}, "tables is of type dict, must be a list of at least one table"),
        ([TABLE, 7], "entry 2 of tables is 7, must be a mapping"),
        ([{"rows": 3, "width": 4}], "entry 1 of tables has no key 'name'"),
        ([{"name": "c00", "rows": 3}], "table 'c00' has no key 'width'"),
    ],
)
def test_a_list_that_is_none_is_refused(raw: Any, message: str) -> None:
    with pytest.raises(ValueError, match="^" + re.escape(message) + "$"):
        read_tables(raw)


def test_lists_of_many_aliases_are_shown_by_their_beginning() -> None:
    many: list[Any] = ["x"] * 10
    for _ in range(7):
        many = [many] * 10
    for raw in ([many], [{**TABLE, "name": many}], [{**TABLE, "group": many}]):
        with pytest.raises(ValueError, match=r"\.\.\.") as raised:
            read_tables(raw)
        assert len(str(raised.value)) < 1_000


def test_a_name_stands_once() -> None:
    with pytest.raises(ValueError, match="table 'c00' is described 2 times"):
        schema_of(TABLE, {**TABLE, "rows": 7})
    with pytest.raises(ValueError, match="table 'stat_1' is described 2 times"):
        schema_of({**TABLE, "name": "stat", "count": 3}, {**TABLE, "name": "stat_1"})
    with pytest.raises(ValueError, match="field 'c00' is listed 2 times"):
        schema_of(TABLE, {**TABLE, "name": "other", "fields": {"c00": 1}})

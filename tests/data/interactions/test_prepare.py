"""Interactions in, sequences and a catalogue out, against a slow reference."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dropdrift.data.encoding.vocabulary import load_vocabularies
from dropdrift.data.interactions.codes import CodeCollector
from dropdrift.data.interactions.prepare import prepare_interactions
from dropdrift.data.interactions.row_checks import RowChecks
from dropdrift.data.interactions.source import InteractionSpec
from dropdrift.data.quarantine import BadRows
from dropdrift.data.schema import FieldGroup, Schema
from dropdrift.data.source import FieldSpec

Row = tuple[Any, Any, Any]


def side(name: str, group: FieldGroup = "item") -> FieldSpec:
    return FieldSpec(name, "categorical", "vocabulary", group=group)


TAGS = FieldSpec("tags", "multi", "vocabulary", group="item", separator="|", max_length=2)
YEAR = FieldSpec("year", "numeric", "buckets", size=4, group="item")
LISTED = {
    "item": ["b", "a", "never", "d"],
    "name": ["Bee", " ", "Never", "Dee"],
    "tags": ["x|y|z", None, "w", "y"],
    "year": [1990, 2000, 1900, None],
}
ROWS: tuple[Row, ...] = (
    ("u", "b", 30),
    ("v", "a", 10),
    ("u", "c", 10),
    ("u", "a", 30),
    ("u", "b", 20),
    ("u", "d", 30),
)


@dataclass
class Listed:
    """Interactions that are written out, in batches of ``batch_rows``."""

    rows: Sequence[Row] = ROWS
    items_table: dict[str, list[Any]] | None = field(default_factory=lambda: dict(LISTED))
    batch_rows: int = 4
    has_time: bool = True
    total_rows: int | None = None

    @property
    def spec(self) -> InteractionSpec:
        with_items = self.items_table is not None
        return InteractionSpec(
            name="listed",
            user="user",
            item="item",
            time="when" if self.has_time else "",
            title="name" if with_items else "",
            fields=(TAGS, YEAR) if with_items else (),
        )

    def batches(self, bad_rows: BadRows) -> Iterator[pa.RecordBatch]:
        del bad_rows
        for start in range(0, len(self.rows), self.batch_rows):
            columns = zip(*self.rows[start : start + self.batch_rows], strict=True)
            yield pa.RecordBatch.from_pydict(
                dict(zip(("user", "item", "when"), map(list, columns), strict=True))
            )

    def items(self, bad_rows: BadRows) -> Iterator[pa.RecordBatch] | None:
        del bad_rows
        if self.items_table is None:
            return None
        whole = pa.RecordBatch.from_pydict(self.items_table)
        return iter([whole.slice(0, 2), whole.slice(2)])


@dataclass
class Prepared:
    """What the folder holds."""

    schema: Schema
    users: pd.DataFrame
    items: pd.DataFrame
    statistics: dict[str, Any]
    folder: Path


def prepared(source: Listed, out: Path, **options: Any) -> Prepared:
    schema = prepare_interactions(source, out, progress=False, **options)
    assert schema == Schema.load(out)
    return Prepared(
        schema,
        pq.read_table(out / "users.parquet").to_pandas().set_index(":user"),
        pq.read_table(out / "items.parquet").to_pandas(),
        json.loads((out / "statistics.json").read_text()),
        out,
    )


def sequences(data: Prepared, column: str = "items") -> dict[str, list[str]]:
    """Each user's items, as raw ids."""
    names = data.items[":item"]
    result = {}
    for user, row in data.users.iterrows():
        places = range(len(row["items"])) if column == "items" else row[column]
        result[str(user)] = [names[row["items"][place]] for place in places]
    return result


def reference(rows: Sequence[Row]) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """Each user's items in the order of time and in that of the rows, one row after the other."""
    by_user: dict[str, list[Row]] = {}
    for row in rows:
        by_user.setdefault(str(row[0]), []).append(row)
    in_time = {u: sorted(own, key=lambda row: row[2]) for u, own in by_user.items()}
    return (
        {u: [str(row[1]) for row in own] for u, own in in_time.items()},
        {u: [str(row[1]) for row in own] for u, own in by_user.items()},
    )


def test_sequences_are_in_time_order_with_ties_as_in_the_file(tmp_path: Path) -> None:
    data = prepared(Listed(), tmp_path / "out")
    assert sequences(data) == {"u": ["c", "b", "b", "a", "d"], "v": ["a"]}
    assert sequences(data, "file_order") == {"u": ["b", "c", "a", "b", "d"], "v": ["a"]}
    assert data.users.loc["u", "times"].tolist() == [10, 20, 30, 30, 30]


def test_the_example_holds_requests_of_the_first_users(tmp_path: Path) -> None:
    data = prepared(Listed(), tmp_path / "out")
    requests = pq.read_table(tmp_path / "out" / "example.parquet").to_pydict()
    assert dict(zip(requests["user"], requests["items"], strict=True)) == sequences(data)


@given(
    rows=st.lists(
        st.tuples(st.integers(0, 4), st.integers(0, 6), st.integers(-3, 3)),
        min_size=1,
        max_size=60,
    ),
    batch_rows=st.integers(1, 20),
)
@settings(max_examples=40)
def test_sequences_are_those_of_a_sort_of_each_user(rows: list[Row], batch_rows: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        source = Listed(rows, items_table=None, batch_rows=batch_rows)
        data = prepared(source, Path(folder) / "out")
    in_time, in_file = reference(rows)
    assert sequences(data) == in_time
    assert sequences(data, "file_order") == in_file
    assert list(data.users.index) == list(in_file), "users are in the order of their first row"
    assert data.items[":item"].tolist() == sorted({str(row[1]) for row in rows})
    counted = data.statistics
    lengths = [len(items) for items in in_file.values()]
    pairs = {(user, item) for user, item, _ in rows}
    assert counted["interactions"] == len(rows)
    assert counted["users"] == len(in_file)
    assert counted["repeats"] == len(rows) - len(pairs)
    assert counted["density"] == len(pairs) / (len(in_file) * len(data.items))
    assert counted["users_below_5"] == sum(length < 5 for length in lengths)
    assert (counted["lengths"]["min"], counted["lengths"]["max"]) == (min(lengths), max(lengths))
    moments = [(user, time) for user, _, time in rows]
    assert counted["time"]["ties"] == len(rows) - len(set(moments))


@given(
    batches=st.lists(
        st.lists(st.tuples(st.sampled_from("abcdefg"), st.booleans()), max_size=8), max_size=8
    )
)
def test_codes_are_given_in_the_order_of_first_appearance(
    batches: list[list[tuple[str, bool]]],
) -> None:
    collector, expected = CodeCollector(), []
    for rows in batches:
        texts = pa.array([text for text, _ in rows], pa.string())
        checks = RowChecks(pa.RecordBatch.from_pydict({"a": texts}), "", 1, BadRows())
        kept = pd.array([kept for _, kept in rows], dtype=bool).to_numpy()
        collector.add(checks.keys("a", "user"), kept)
        expected += [text for text, kept in rows if kept]
    values, codes = collector.collected()
    assert sorted(values.to_pylist()) == sorted(set(expected))
    assert [values[int(code)].as_py() for code in codes] == expected


def test_the_catalogue_has_titles_and_features_of_what_occurs(tmp_path: Path) -> None:
    data = prepared(Listed(), tmp_path / "out")
    items = data.items
    assert items[":item"].tolist() == ["a", "b", "c", "d"]
    assert items[":title"].fillna("").tolist() == ["", "Bee", "", "Dee"]
    assert items["item_id"].tolist() == [1, 2, 3, 4]
    tags = load_vocabularies(data.folder, data.schema)["tags"].values.to_pylist()
    assert [[tags[i - 1] for i in ids] for ids in items["tags"]] == [[], ["x", "y"], [], ["y"]]
    assert items["year"].notna().tolist() == [True, True, False, False]
    assert data.statistics["side_table"] == {
        "items": 4,
        "left_out_without_interaction": 1,
        "catalogue_items_not_in_it": 1,
    }
    assert data.statistics["fields"]["tags"] == {
        "missing_rate": 0.5,
        "pooling_factor": 0.75,
        "out_of_vocabulary": 0.0,
    }


def test_the_schema_describes_an_item(tmp_path: Path) -> None:
    schema = prepared(Listed(), tmp_path / "out").schema
    assert schema.kind == "interactions"
    assert schema.field_names == ("item_id", "tags", "year")
    assert schema.fields[0].identifier
    assert {field.group for field in schema.fields} == {"item"}
    assert (schema.labels, schema.has_user, schema.has_time) == ((), True, True)
    assert schema.table("item_id").rows == 5
    # "w" and 1900 belong to an item that nobody has met.
    assert schema.table("tags").rows == 3
    assert schema.table("year").encoding.edges == (2000.0,)


def test_column_types_are_those_of_the_layout(tmp_path: Path) -> None:
    out = prepared(Listed(), tmp_path / "out").folder
    kinds = {f.name: f.type for f in pq.read_schema(out / "users.parquet")}
    assert kinds.pop(":user") == pa.string()
    values = {name: kind.value_type for name, kind in kinds.items()}
    assert values == {"items": pa.int32(), "times": pa.int64(), "file_order": pa.int32()}
    kinds = {f.name: f.type for f in pq.read_schema(out / "items.parquet")}
    assert kinds.pop("tags").value_type == pa.int32()
    assert kinds == {
        ":item": pa.string(), ":title": pa.string(), "item_id": pa.int32(), "year": pa.int32(),
    }  # fmt: skip


def test_without_time_the_order_of_the_rows_counts(tmp_path: Path) -> None:
    data = prepared(Listed(has_time=False), tmp_path / "out")
    assert not data.schema.has_time
    assert sequences(data) == {"u": ["b", "c", "a", "b", "d"], "v": ["a"]}
    assert sequences(data, "file_order") == sequences(data)
    assert data.users.loc["u", "times"].tolist() == [0] * 5
    assert data.statistics["time"] is None


def test_without_a_side_table_the_id_is_the_only_field(tmp_path: Path) -> None:
    data = prepared(Listed(items_table=None), tmp_path / "out")
    assert data.schema.field_names == ("item_id",)
    assert data.items[":title"].isna().all()
    assert data.statistics["side_table"]["items"] == 0


@pytest.mark.parametrize("ids", [[7, 7], [7.0, 7.0], ["7", " 7 "], ["7.0", "7"]])
def test_an_id_is_its_text_form(ids: list[Any], tmp_path: Path) -> None:
    source = Listed([(ids[0], 1, 1), (ids[1], 1.0, 2)], items_table=None, batch_rows=1)
    assert sequences(prepared(source, tmp_path / "out")) == {"7": ["1", "1"]}


def test_broken_times_order_and_are_rounded_down(tmp_path: Path) -> None:
    rows = [("u", "a", 1.75), ("u", "b", 1.25), ("u", "c", -0.5)]
    data = prepared(Listed(rows), tmp_path / "out")
    assert sequences(data) == {"u": ["c", "b", "a"]}
    assert data.users.loc["u", "times"].tolist() == [-1, 1, 1]


def test_whole_times_are_exact(tmp_path: Path) -> None:
    late = 2**62
    rows = [("u", "a", late + 1), ("u", "b", late), ("u", "c", None)]
    data = prepared(Listed(rows), tmp_path / "out", bad_rows="quarantine")
    assert sequences(data) == {"u": ["b", "a"]}
    assert data.users.loc["u", "times"].tolist() == [late, late + 1]


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ((None, "a", "1"), "column 'user', the user, is missing"),
        (("u", " ", "1"), "column 'item', the item, is missing"),
        (("u", "a", None), "column 'when', the time, is missing"),
        (("u", "a", "noon"), "column 'when' holds no number"),
        (("u", "a", "1e30"), "column 'when' holds a time beyond 64 bits"),
    ],
)
def test_a_bad_row_is_named_or_set_aside(bad: Row, reason: str, tmp_path: Path) -> None:
    rows = [(user, item, str(time)) for user, item, time in ROWS]
    source = Listed([*rows[:5], bad, *rows[5:]], batch_rows=3)
    with pytest.raises(ValueError, match=f"data set 'listed', interactions, row 6: {reason}"):
        prepare_interactions(source, tmp_path / "out", progress=False)
    assert list(tmp_path.iterdir()) == []
    data = prepared(source, tmp_path / "out", bad_rows="quarantine")
    assert data.statistics["bad_rows"] == {reason: 1}
    assert sequences(data) == sequences(prepared(Listed(), tmp_path / "clean"))
    entry = json.loads((tmp_path / "out" / "quarantine.jsonl").read_text())
    assert (entry["row"], entry["reason"]) == (6, reason)


def test_a_user_or_item_of_bad_rows_alone_is_not_there(tmp_path: Path) -> None:
    rows = [("only", "bad", None), *ROWS]
    data = prepared(Listed(rows), tmp_path / "out", bad_rows="quarantine")
    assert "only" not in data.users.index
    assert "bad" not in data.items[":item"].tolist()


@pytest.mark.parametrize(
    ("column", "value", "reason"),
    [
        ("item", None, "column 'item', the item, is missing"),
        ("year", "soon", "column 'year' holds no number"),
    ],
)
def test_a_bad_row_of_the_items_is_named_or_set_aside(
    column: str, value: Any, reason: str, tmp_path: Path
) -> None:
    table = {name: [str(v) if v else None for v in values] for name, values in LISTED.items()}
    table[column] = [*table[column][:3], value]
    source = Listed(items_table=table)
    with pytest.raises(ValueError, match=f"data set 'listed', items, row 4: {reason}"):
        prepare_interactions(source, tmp_path / "out", progress=False)
    data = prepared(source, tmp_path / "out", bad_rows="quarantine")
    assert data.statistics["bad_rows"] == {reason: 1}
    assert data.items[":title"].fillna("").tolist() == ["", "Bee", "", ""]


def test_an_item_that_is_listed_twice_is_named(tmp_path: Path) -> None:
    table = {**LISTED, "item": ["b", "a", "b", "d"]}
    with pytest.raises(ValueError, match="items: item 'b' is listed 2 times"):
        prepare_interactions(Listed(items_table=table), tmp_path / "out", progress=False)


@pytest.mark.parametrize("column", ["item", "name", "year"])
def test_a_column_that_the_items_lack_is_named(column: str, tmp_path: Path) -> None:
    table = {name: values for name, values in LISTED.items() if name != column}
    with pytest.raises(ValueError, match=f"items: no column '{column}'; there are "):
        prepare_interactions(Listed(items_table=table), tmp_path / "out", progress=False)


def test_items_of_which_none_occurs_are_counted(tmp_path: Path) -> None:
    table = {**LISTED, "item": ["k", "l", "m", "n"]}
    data = prepared(Listed(items_table=table), tmp_path / "out")
    assert data.statistics["side_table"]["catalogue_items_not_in_it"] == 4
    assert data.items[":title"].isna().all()


@pytest.mark.parametrize("rows", [[], [(None, "a", 1)]])
def test_a_data_set_without_interactions_is_refused(rows: list[Row], tmp_path: Path) -> None:
    aside = "; rows set aside: 1" if rows else ""
    with pytest.raises(ValueError, match=f"data set 'listed' has no interaction{aside}$"):
        prepare_interactions(Listed(rows), tmp_path / "out", bad_rows="quarantine", progress=False)


def test_a_folder_is_replaced_only_if_asked(tmp_path: Path) -> None:
    out = prepared(Listed(), tmp_path / "out").folder
    with pytest.raises(ValueError, match="out exists already"):
        prepare_interactions(Listed(), out, progress=False)
    data = prepared(Listed(ROWS[:1]), out, overwrite=True, provenance={"command": "here"})
    assert sequences(data) == {"u": ["b"]}
    assert data.statistics["provenance"] == {"command": "here"}


def test_a_failed_replacement_leaves_the_old_data(tmp_path: Path) -> None:
    out = prepared(Listed(), tmp_path / "out").folder
    with pytest.raises(ValueError, match="has no interaction"):
        prepare_interactions(Listed([]), out, overwrite=True, progress=False)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out"]
    assert len(pq.read_table(out / "users.parquet")) == 2


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"user": ""}, "names no column for the user"),
        ({"time": "item"}, "must be different columns"),
        (
            {"fields": (FieldSpec("item", "categorical", "vocabulary", group="item"),)},
            "is the item",
        ),
        (
            {"fields": (FieldSpec("item_id", "categorical", "vocabulary", group="item"),)},
            "a side field is called 'item_id'",
        ),
        ({"fields": (FieldSpec("a", "categorical", "vocabulary"),)}, "has group 'context'"),
    ],
)
def test_a_description_that_contradicts_itself_is_refused(
    changed: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        InteractionSpec(**{"name": "n", "user": "user", "item": "item", **changed})

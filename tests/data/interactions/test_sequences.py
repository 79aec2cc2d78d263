from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dropdrift.data.interactions.catalogue import Catalogue
from dropdrift.data.interactions.sequences import Sequences
from dropdrift.data.schema import Schema

Write = Callable[..., Path]


@pytest.fixture
def folder(interactions_folder: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    return Path(shutil.copytree(interactions_folder, tmp_path / "data"))


def load(folder: Path, order: str = "time") -> Sequences:
    schema = Schema.load(folder)
    sequences = Sequences.load(folder, schema, order, 3)
    Catalogue.load(folder, schema).check(sequences, folder)
    return sequences


def change(folder: Path, file: str, name: str, values: object) -> None:
    table = pq.read_table(folder / file)
    place = table.column_names.index(name)
    kind = table.schema.field(name).type
    array = values if isinstance(values, pa.Array) else pa.array(values, kind)
    pq.write_table(table.set_column(place, name, array), folder / file)


def column(folder: Path, file: str, name: str) -> list[object]:
    values: list[object] = pq.read_table(folder / file).column(name).to_pylist()
    return values


def test_users_with_few_interactions_are_left_out(
    tmp_path: Path, write_interactions: Write
) -> None:
    users = [[1], [0, 2, 1], [], [3, 3], [2, 1, 0, 3]]
    times = [[9], [1, 2, 3], [], [5, 5], [4, 5, 6, 7]]
    folder = write_interactions(tmp_path, users, times=times)
    schema = Schema.load(folder)
    sequences = Sequences.load(folder, schema, "time", 3)
    assert sequences.left_out == 3
    assert sequences.users.to_pylist() == ["u1", "u4"]
    assert sequences.offsets.tolist() == [0, 3, 7]
    assert sequences.items.tolist() == [0, 2, 1, 2, 1, 0, 3]
    assert sequences.times.tolist() == [1, 2, 3, 4, 5, 6, 7]
    everyone = Sequences.load(folder, schema, min_interactions=0)
    assert len(everyone) == 5
    assert everyone.left_out == 0
    assert everyone.lengths.tolist() == [1, 3, 0, 2, 4]


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=8))
def test_stretches_are_taken_in_order(pairs: list[tuple[int, int]]) -> None:
    sequences = Sequences(
        pa.array(["u"]), np.array([0, 9]), np.arange(9, dtype=np.int32) * 2, np.zeros(9, np.int64)
    )
    bounds = np.array([sorted(pair) for pair in pairs], dtype=np.int64).reshape(-1, 2)
    offsets, items = sequences.take(bounds[:, 0], bounds[:, 1])
    wanted = [list(range(2 * start, 2 * stop, 2)) for start, stop in bounds]
    assert [items[offsets[i] : offsets[i + 1]].tolist() for i in range(len(pairs))] == wanted
    assert items.tolist() == [item for stretch in wanted for item in stretch]


def test_the_features_of_items(interactions_folder: Path) -> None:
    schema = Schema.load(interactions_folder)
    catalogue = Catalogue.load(interactions_folder, schema)
    table = pq.read_table(interactions_folder / "items.parquet")
    assert catalogue.titles.to_pylist()[3] == "Item 3"
    assert catalogue.items.to_pylist()[3] == "i3"
    assert len(catalogue) == 30
    rows = np.array([4, 0, 29, 4, 7])
    for chosen, features in [
        (np.arange(30), catalogue.features()),
        (rows, catalogue.features(rows)),
        (rows, catalogue.features(rows.astype(np.int32), fill=8)),
    ]:
        for name in schema.field_names:
            wanted = table.column(name).take(chosen).to_pylist()
            lists = [v if isinstance(v, list) else [] if v is None else [v] for v in wanted]
            found = [bag.tolist() for bag in features[name].to_dense()]
            assert found[: len(lists)] == lists
            assert found[len(lists) :] == [[]] * (features.stride() - len(lists))
    assert catalogue.features(rows, fill=8).stride() == 8


def test_a_permutation_that_is_none(folder: Path) -> None:
    order = column(folder, "users.parquet", "file_order")
    for wrong in (0, 99, -1):
        rows = [list(row) for row in order]  # type: ignore[call-overload]
        rows[5][rows[5].index(1)] = wrong
        change(folder, "users.parquet", "file_order", rows)
        with pytest.raises(ValueError, match=r"users.parquet: 'file_order' is no permutation"):
            load(folder, "file")
        load(folder)


@pytest.mark.parametrize("name", ["times", "file_order"])
def test_lists_of_different_lengths(folder: Path, name: str) -> None:
    rows = column(folder, "users.parquet", name)
    rows[7] = rows[7][1:]  # type: ignore[index]
    change(folder, "users.parquet", name, rows)
    with pytest.raises(ValueError, match=rf"user u7 has not as many '{name}' as 'items'"):
        load(folder, "file")


@pytest.mark.parametrize(
    ("item", "message"),
    [
        (30, r"users.parquet names item 30, .*items.parquet has items 0 to 29"),
        (-2, r"users.parquet: 'items' holds -2, a negative row"),
        (None, r"users.parquet: column 'items' holds a list with a null in it"),
    ],
)
def test_items_out_of_the_catalogue(folder: Path, item: int | None, message: str) -> None:
    rows = column(folder, "users.parquet", "items")
    rows[3][2] = item  # type: ignore[index]
    change(folder, "users.parquet", "items", rows)
    with pytest.raises(ValueError, match=message):
        load(folder)


def test_damaged_files(folder: Path) -> None:
    for file in ("users.parquet", "items.parquet"):
        content = (folder / file).read_bytes()
        (folder / file).write_bytes(content[:-9])
        with pytest.raises(ValueError, match=rf"{file} cannot be read as Parquet, is it cut"):
            load(folder)
        (folder / file).unlink()
        with pytest.raises(ValueError, match=rf"{file} does not exist: run"):
            load(folder)
        (folder / file).write_bytes(content)


def test_columns_that_are_not_as_they_should_be(folder: Path) -> None:
    users = pq.read_table(folder / "users.parquet")
    change(folder, "users.parquet", "times", pa.array([1.5] * len(users)))
    with pytest.raises(ValueError, match="column 'times' is double, must be list<int64>"):
        load(folder)
    pq.write_table(users.drop_columns("times"), folder / "users.parquet")
    with pytest.raises(ValueError, match=r"users.parquet: no column 'times'"):
        load(folder)
    pq.write_table(users, folder / "users.parquet")
    change(folder, "users.parquet", ":user", [None, *users.column(":user").to_pylist()[1:]])
    with pytest.raises(ValueError, match="column ':user' has a null"):
        load(folder)
    pq.write_table(users, folder / "users.parquet")
    change(folder, "items.parquet", "item_id", [99] * 30)
    with pytest.raises(ValueError, match="field 'item_id' holds id 99"):
        load(folder)
    items = pq.read_table(folder / "items.parquet")
    pq.write_table(items.slice(0, 0), folder / "items.parquet")
    with pytest.raises(ValueError, match=r"items.parquet holds no items"):
        load(folder)
    pq.write_table(items.drop_columns("tags"), folder / "items.parquet")
    with pytest.raises(ValueError, match=r"items.parquet: no column 'tags'"):
        load(folder)


def test_no_users_at_all(folder: Path) -> None:
    users = pq.read_table(folder / "users.parquet")
    pq.write_table(users.slice(0, 0), folder / "users.parquet")
    with pytest.raises(ValueError, match="no user has 3 interactions, the most are 0"):
        load(folder)

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dropdrift.training.retrieval import requests
from dropdrift.training.retrieval.config import RetrieveConfig
from dropdrift.training.retrieval.requests import RequestFile


def options(source: Path, **changes: Any) -> RetrieveConfig:
    return RetrieveConfig(Path("run"), Path("index"), source, Path("out.parquet"), **changes)


def text(folder: Path, lines: str, name: str = "requests.csv") -> Path:
    path = folder / name
    path.write_text(lines)
    return path


def table(folder: Path, columns: dict[str, Any]) -> Path:
    path = folder / "requests.parquet"
    pq.write_table(pa.table(columns), path)
    return path


def read(path: Path, **changes: Any) -> list[tuple[str | None, list[str | None], list[int] | None]]:
    """User, items and times of every request."""
    rows = []
    for batch in RequestFile(options(path, **changes)).batches():
        assert batch.first == len(rows)
        raw = batch.histories
        for number, user in enumerate(batch.users.to_pylist()):
            if raw is None:
                rows.append((user, [], None))
                continue
            stretch = slice(raw.offsets[number], raw.offsets[number + 1])
            values = [*raw.items.values.to_pylist(), None]
            items = [values[code] for code in raw.items.codes[stretch]]
            rows.append((user, items, None if raw.times is None else raw.times[stretch].tolist()))
    return rows


def test_users_alone(tmp_path: Path) -> None:
    path = text(tmp_path, "user\n7\n 8.0 \n\n9\n")
    assert [user for user, _, _ in read(path)] == ["7", "8", "9"]
    path = table(tmp_path, {"who": pa.array([3.0, None, 4.0])})
    assert [user for user, _, _ in read(path, user_column="who")] == ["3", None, "4"]


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        ("a.csv", "user,items,times\na,1 2  3,10 20 30\nb,,\nc,4,\n"),
        ("a.tsv", "user\titems\ttimes\na\t 1 2 3 \t10 20 30\nb\t\t\nc\t4\t\n"),
    ],
)
def test_histories_in_text(name: str, lines: str, tmp_path: Path) -> None:
    wanted = [("a", ["1", "2", "3"], [10, 20, 30]), ("b", [], []), ("c", ["4"], [0])]
    assert read(text(tmp_path, lines, name)) == wanted


def test_another_separator_and_empty_places(tmp_path: Path) -> None:
    path = text(tmp_path, "user,items\na,1|| 3 |\nb,|\nc,5\n")
    assert read(path, separator="|") == [
        ("a", ["1", None, "3"], None),
        ("b", [], None),
        ("c", ["5"], None),
    ]


@pytest.mark.parametrize("kind", [pa.list_(pa.int64()), pa.large_list(pa.float64())])
def test_histories_in_lists(kind: pa.DataType, tmp_path: Path) -> None:
    path = table(
        tmp_path,
        {
            "user": ["a", "b", "c", "d"],
            "items": pa.array([[1, None, 3], None, [], [4]], kind),
            "times": pa.array([[5, 6, 7], None, [], None], kind),
        },
    )
    assert read(path) == [
        ("a", ["1", None, "3"], [5, 6, 7]),
        ("b", [], []),
        ("c", [], []),
        ("d", ["4"], [0]),
    ]


def test_one_item_may_be_a_number(tmp_path: Path) -> None:
    path = table(tmp_path, {"user": [1, 2], "items": pa.array([17, None])})
    assert read(path) == [("1", ["17"], None), ("2", [], None)]


def test_requests_come_in_stretches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requests, "READ_ROWS", 3)
    items = [[str(number)] * (number % 4) for number in range(10)]
    path = table(tmp_path, {"user": list(range(10)), "items": pa.array(items)})
    batches = list(RequestFile(options(path)).batches())
    assert [len(batch) for batch in batches] == [3, 3, 3, 1]
    assert [items for _, items, _ in read(path)] == items
    for batch in batches:
        assert batch.histories is not None
        assert batch.histories.offsets.dtype == np.int64


@pytest.mark.parametrize(
    ("lines", "changes", "line"),
    [
        ("name\na\n", {}, r"no column 'user'; it has name: .*--user-column"),
        ("user,item\na,1\n", {"items_column": "item_s"}, r"no column 'item_s', as --items-column"),
        ("user,times\na,1\n", {}, r"column 'times' but none of items, 'items'"),
        ("user,items,times\na,1 2,5\n", {}, r"row 1: 2 items, but 1 values of 'times'"),
        ("user,items,times\na,1,5\nb,1 2,5 x\n", {}, r"row 2: 'x' in column 'times' is no time"),
        ("user,items,times\na,1,1e40\n", {}, r"row 1: '1e40' in column 'times' is no time"),
        ("user,items\na,1\nb,2,3\n", {}, r"row 2: has a number of values other than 2"),
        ("user,user\na,1\n", {}, r"'user' more than once"),
        ("", {}, r"has no header"),
    ],
)
def test_a_wrong_file_is_one_line(
    lines: str, changes: dict[str, str], line: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=line) as error:
        read(text(tmp_path, lines), **changes)
    assert "--bad-rows" not in str(error.value)
    assert "requests.csv" in str(error.value)


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="does not exist"):
        RequestFile(options(tmp_path / "none.csv"))
    with pytest.raises(ValueError, match=r"does not end in \.csv"):
        RequestFile(options(text(tmp_path, "user\n", "requests.xlsx")))
    with pytest.raises(ValueError, match="cannot be read as Parquet"):
        RequestFile(options(text(tmp_path, "user\n", "requests.parquet")))
    nested = table(tmp_path, {"user": pa.array([["a"]])})
    with pytest.raises(ValueError, match="column 'user' has type list"):
        read(nested)
    nested = table(tmp_path, {"user": ["a"], "items": pa.array([[["a"]]])})
    with pytest.raises(ValueError, match="column 'items' has type list"):
        read(nested)


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"k": 0}, "k is 0, must be at least 1"),
        ({"separator": ""}, "separator is empty"),
        ({"ef_search": 2**31}, "ef_search is 2147483648, must be at most 2147483647"),
        ({"items_column": "user"}, "the column 'user' cannot be two of"),
    ],
)
def test_wrong_options_are_refused(changes: dict[str, Any], line: str) -> None:
    with pytest.raises(ValueError, match=line):
        options(Path("requests.csv"), **changes)

import datetime
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from dropdrift.data.adaptors.row_filter import condition, kept_rows
from dropdrift.data.adaptors.table_interactions import TableInteractions
from dropdrift.data.interactions.prepare import prepare_interactions
from dropdrift.data.quarantine import BadRows

BOUGHT = pd.DataFrame(
    {
        "who": [2, 1, 2, 2, 1],
        "what": ["b", "a", "a", "a", "c"],
        "when": [5, 7, 3, 3, 6],
        "event": ["buy", "buy", "look", "buy", "gift"],
    }
)
PRODUCTS = pd.DataFrame(
    {"code": ["a", "b"], "name": ["Ale", "Bun"], "tags": ["x|y", ""], "price": [1.5, None]}
)
DESCRIPTION: dict[str, Any] = {"kind": "interactions", "user": "who", "item": "what"}
ITEMS = {
    "source": "products.csv",
    "item": "code",
    "title": "name",
    "fields": [
        {"name": "tags", "kind": "multi", "separator": "|"},
        {"name": "price", "kind": "numeric", "size": 4},
    ],
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    BOUGHT.to_csv(tmp_path / "bought.csv", index=False)
    PRODUCTS.to_csv(tmp_path / "products.csv", index=False)
    return tmp_path


def made(folder: Path, source: str = "bought.csv", **keys: Any) -> TableInteractions:
    path = folder / "shop.yaml"
    path.write_text(yaml.safe_dump({**DESCRIPTION, **keys}))
    return TableInteractions(folder / source, path)


def rows(source: TableInteractions) -> dict[str, list[Any]]:
    return pa.Table.from_batches(source.batches(BadRows())).to_pydict()


def listed(folder: Path, source: TableInteractions) -> tuple[dict[str, list[str]], pd.DataFrame]:
    """Each user's items after preparation, and the catalogue."""
    prepare_interactions(source, folder / "out", progress=False, overwrite=True)
    items = pd.read_parquet(folder / "out" / "items.parquet")
    users = pd.read_parquet(folder / "out" / "users.parquet")
    names = items[":item"].to_numpy()
    return {
        user: names[own].tolist() for user, own in zip(users[":user"], users["items"], strict=True)
    }, items


def test_interactions_and_the_table_of_the_items(folder: Path) -> None:
    source = made(folder, time="when", items=ITEMS)
    assert source.spec.name == "shop"
    sequences, items = listed(folder, source)
    assert sequences == {"2": ["a", "a", "b"], "1": ["c", "a"]}
    assert items[":title"].fillna("").tolist() == ["Ale", "Bun", ""]
    assert [len(tags) for tags in items["tags"]] == [2, 0, 0]
    assert items["price"].notna().tolist() == [True, False, False]


def test_without_time_the_order_is_the_file_s(folder: Path) -> None:
    sequences, _ = listed(folder, made(folder))
    assert sequences == {"2": ["b", "a", "a"], "1": ["a", "c"]}


@pytest.mark.parametrize(
    ("keep", "expected"),
    [
        ({"event": "buy"}, ["b", "a", "a"]),
        ({"event": ["buy", "gift"]}, ["b", "a", "a", "c"]),
        ({"event": "buy", "who": 2}, ["b", "a"]),
        ({"when": "3.0"}, ["a", "a"]),
    ],
)
def test_rows_are_kept_by_their_values(
    keep: dict[str, Any], expected: list[str], folder: Path
) -> None:
    source = made(folder, time="when", keep=keep)
    assert rows(source)["what"] == expected
    assert set(rows(source)) == {"who", "what", "when"}


def test_the_condition_is_told_where_no_row_meets_it(folder: Path) -> None:
    source = made(folder, keep={"event": ["sell", True]})
    with pytest.raises(ValueError, match=r"no interaction where event is sell or true$"):
        prepare_interactions(source, folder / "out", progress=False)


def test_values_are_compared_as_text() -> None:
    batch = pa.RecordBatch.from_pydict({"a": [1.0, 2.0, None, 1.0], "b": [True, True, True, False]})
    assert kept_rows(batch, {"a": ("1",)}).tolist() == [True, False, False, True]
    assert kept_rows(batch, {"a": ("1", "2"), "b": ("true",)}).tolist() == [True] * 2 + [False] * 2
    assert condition({}) == ""
    with pytest.raises(ValueError, match="column 'c' has type list"):
        kept_rows(pa.RecordBatch.from_pydict({"c": [[1]]}), {"c": ("1",)})


@pytest.mark.parametrize(("duplicates", "count"), [("keep", 5), ("drop", 4)])
def test_repeated_rows_are_dropped_if_asked(duplicates: str, count: int, folder: Path) -> None:
    assert len(rows(made(folder, time="when", duplicates=duplicates))["what"]) == count


def test_several_files_of_any_format_are_one_stream(folder: Path) -> None:
    BOUGHT[:2].to_csv(folder / "log-1.tsv", index=False, sep="\t")
    BOUGHT[2:].to_parquet(folder / "log-2.parquet")
    expected, _ = listed(folder, made(folder, time="when"))
    sequences, _ = listed(folder, made(folder, "log-*", time="when"))
    assert sequences == expected
    assert made(folder, "log-*").total_rows is None
    assert made(folder, "log-2.parquet").total_rows == 3
    assert made(folder, "log-2.parquet", keep={"event": "buy"}).total_rows is None


def test_timestamps_become_seconds(folder: Path) -> None:
    times = [datetime.datetime(2024, 5, 1, 0, 0, s, tzinfo=datetime.UTC) for s in (9, 8)]
    table = pa.table({"who": [1, 1], "what": [1, 2], "when": times})
    pq.write_table(table, folder / "bought.parquet")
    listed(folder, made(folder, "bought.parquet", time="when"))
    users = pd.read_parquet(folder / "out" / "users.parquet")
    assert users["times"][0].tolist() == [1_714_521_608, 1_714_521_609]


def test_items_are_found_whatever_the_type_of_their_ids(folder: Path) -> None:
    BOUGHT.assign(what=[2.0, 1.0, 1.0, 1.0, None]).dropna().to_parquet(folder / "bought.parquet")
    PRODUCTS.assign(code=["1", "2"]).to_csv(folder / "products.csv", index=False)
    _, items = listed(folder, made(folder, "bought.parquet", items=ITEMS))
    assert items[":title"].tolist() == ["Ale", "Bun"]


def test_a_bad_row_of_the_items_is_named(folder: Path) -> None:
    PRODUCTS.assign(price=["1", "cheap"]).to_csv(folder / "products.csv", index=False)
    source = made(folder, items=ITEMS)
    with pytest.raises(ValueError, match=r"products.csv, row 2: column 'price' holds no number"):
        prepare_interactions(source, folder / "out", progress=False)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"user": "whom"}, r"bought.csv has no column 'whom'; it has who, what, when, event"),
        ({"keep": {"evnt": "buy"}}, r"bought.csv has no column 'evnt'"),
        ({"items": {**ITEMS, "item": "id"}}, r"products.csv has no column 'id'"),
        ({"items": {**ITEMS, "title": "label"}}, r"products.csv has no column 'label'"),
    ],
)
def test_a_wrong_column_is_named(keys: dict[str, Any], message: str, folder: Path) -> None:
    with pytest.raises(ValueError, match=message):
        prepare_interactions(made(folder, **keys), folder / "out", progress=False)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"kind": "impressions"}, "the file: kind is 'impressions', must be one of interactions"),
        ({"users": "who"}, "unknown key 'users'; did you mean 'user'?"),
        ({"user": "what"}, "must be different columns"),
        ({"duplicates": "first"}, "duplicates is 'first', must be one of keep, drop"),
        ({"items": {"source": "products.csv"}}, "items has neither title nor fields"),
        ({"items": {**ITEMS, "titel": "name"}}, "items has the unknown key 'titel'"),
        ({"items": {**ITEMS, "source": "none.csv"}}, "none.csv does not exist"),
        (
            {"items": {**ITEMS, "fields": [{"name": "code", "kind": "categorical"}]}},
            "items: field 'code' is the item",
        ),
        (
            {"items": {**ITEMS, "fields": [{"name": "tags", "kind": "multi"}]}},
            "delimited text needs its 'separator'",
        ),
        (
            {"items": {**ITEMS, "fields": [{"name": "p", "kind": "numeric", "group": "user"}]}},
            "field 'p' has group 'user'",
        ),
        ({"keep": {"event": [["buy"]]}}, "keep: event"),
        ({"keep": {"event": []}}, "keep: event is empty"),
    ],
)
def test_a_wrong_description_is_named(keys: dict[str, Any], message: str, folder: Path) -> None:
    with pytest.raises(ValueError, match=message.replace("?", r"\?")):
        made(folder, **keys)


def test_a_description_for_ranking_is_recognised(folder: Path) -> None:
    path = folder / "shop.yaml"
    path.write_text(yaml.safe_dump({"fields": [], "labels": ["a"], "split": {}}))
    with pytest.raises(ValueError, match="describes a table for ranking"):
        TableInteractions(folder / "bought.csv", path)


@pytest.mark.skipif("DROPDRIFT_DATASETS" not in os.environ, reason="DROPDRIFT_DATASETS is not set")
def test_real_long_views(tmp_path: Path) -> None:
    file = Path(os.environ["DROPDRIFT_DATASETS"]) / "kuairand_pure_long_views.parquet"
    path = tmp_path / "views.yaml"
    keys = {"kind": "interactions", "user": "user_id", "item": "video_id", "time": "time_ms"}
    path.write_text(yaml.safe_dump(keys))
    prepare_interactions(TableInteractions(file, path), tmp_path / "out", progress=False)
    counted = json.loads((tmp_path / "out" / "statistics.json").read_text())
    assert counted["interactions"] == 444_122
    assert (counted["users"], counted["items"]) == (26_008, 6_827)
    official = pd.read_parquet(file)
    users = pd.read_parquet(tmp_path / "out" / "users.parquet")
    items = pd.read_parquet(tmp_path / "out" / "items.parquet")[":item"].to_numpy()
    flat = items[np.concatenate(users["items"])]
    lengths = users["items"].map(len)
    own = pd.DataFrame({"user": np.repeat(users[":user"], lengths).to_numpy(), "item": flat})
    order = official["user_id"].map({int(u): i for i, u in enumerate(users[":user"])})
    expected = official.assign(place=order).sort_values(["place", "time_ms"], kind="stable")
    assert own["user"].tolist() == expected["user_id"].astype(str).tolist()
    assert own["item"].tolist() == expected["video_id"].astype(str).tolist()
    assert np.concatenate(users["times"]).tolist() == expected["time_ms"].tolist()

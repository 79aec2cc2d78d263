import datetime
import gzip
import json
import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dropdrift.data.adaptors.table import TableSource
from dropdrift.data.adaptors.table_description import TextFormat, read_description
from dropdrift.data.preparing.prepare import prepare
from dropdrift.data.quarantine import BadRows
from dropdrift.data.source import FieldSpec, FractionSplit, TimeSplit

DESCRIPTION = """
fields:
  - {name: user, kind: categorical, group: user, identifier: true}
  - {name: price, kind: numeric, missing_codes: [-1, NA]}
  - {name: age, kind: numeric, size: 4}
  - {name: tags, kind: multi, separator: "|"}
labels:
  click:
  liked: {column: rating, at_least: 4}
user: user
time: when
split: {validation_from: 60, test_from: 80}
"""
HEADER = "user,price,age,tags,click,rating,when,comment"


def lines(start: int = 0, stop: int = 100) -> list[str]:
    return [
        f"{i % 7},{'NA' if i % 4 == 0 else i / 8},{i},{'|'.join('xyz'[: i % 4])},"
        f'{i % 2},{i % 6 or ""},{i},"so, so"'
        for i in range(start, stop)
    ]


def csv(folder: Path, *rows: str, name: str = "log.csv", header: str = HEADER) -> Path:
    path = folder / name
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


def described(folder: Path, text: str = DESCRIPTION) -> Path:
    path = folder / "columns.yaml"
    path.write_text(text)
    return path


def table(source: TableSource, bad_rows: BadRows | None = None) -> pa.Table:
    return pa.Table.from_batches(source.batches(bad_rows or BadRows()))


def test_a_description_has_sensible_defaults(tmp_path: Path) -> None:
    description = read_description(described(tmp_path))
    spec = description.spec
    assert spec.fields == (
        FieldSpec("user", "categorical", "vocabulary", group="user", identifier=True),
        FieldSpec("price", "numeric", "buckets", size=32, missing_codes=("-1", "NA")),
        FieldSpec("age", "numeric", "buckets", size=4),
        FieldSpec("tags", "multi", "vocabulary", separator="|", max_length=20),
    )
    assert (spec.name, spec.labels, spec.user, spec.time) == (
        "columns", ("click", "liked"), "user", "when",
    )  # fmt: skip
    assert spec.split == TimeSplit(60, 80)
    assert description.text == TextFormat()


def test_a_description_may_say_everything(tmp_path: Path) -> None:
    text = """
name: shop
fields:
  - {name: 1, kind: sequence, encoding: hash, size: 50, table: items, width: 8, pooling: sum,
     missing_codes: none, separator: " ", max_length: 7, min_count: 3, group: item}
labels: [click, buy]
split: {validation: 0.2}
format: {delimiter: ";", columns: [1, click, buy], encoding: latin-1, quote: ""}
"""
    description = read_description(described(tmp_path, text))
    (field,) = description.spec.fields
    assert field == FieldSpec(
        "1", "sequence", "hash", 50, 3, "item", False, "items", 8, "sum", ("none",), " ", 7
    )
    assert description.spec.split == FractionSplit(0.2, 0.1)
    assert description.text == TextFormat(";", ("1", "click", "buy"), "latin-1", "")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("separator:", "seperator:", "field 'tags' has the unknown key 'seperator'; did you mean"),
        (
            "kind: multi",
            "kind: mutli",
            r"field 'tags': kind is 'mutli', must be one of .*'multi'\?",
        ),
        ("size: 4", "size: four", "field 'age': size is 'four', must be of type int"),
        ("identifier: true", "identifier: 1", "identifier is 1, must be of type bool"),
        ("[-1, NA]", "[-1, NO]", "missing_codes is False, .*put it in quotes"),
        ("kind: multi, ", "", "field 'tags' has no key 'kind'"),
        ("- {name: user, kind", "- {kind", "field 1 has no key 'name'"),
        ("time: when", "tiem: when", "the file has the unknown key 'tiem'; did you mean 'time'"),
        ("time: when", "", "validation_from and test_from need a time column"),
        ("test_from: 80", "", "split has no key 'test_from'"),
        ("test_from: 80", "test: 80", "split has the unknown key 'test'"),
        ("test_from: 80", "test_from: late", "test_from is 'late', must be of type float"),
        ("test_from: 80", "test_from: .nan", "test_from is nan"),
        ("{column: rating, at_least: 4}", "{at_last: 4}", "label 'liked' has the unknown key"),
        ("column: rating", "column: age", "label 'liked' is made of 'age', which is also a field"),
        ("name: age", "name: click", "'click' is both a field and a label"),
        ("name: age", "name: price", "field 'price' is listed 2 times"),
        ("user: user", "user: {}", "the file: user is {}, must be of type str"),
        ("user: user", "format: {delimiter: '::'}", "delimiter is '::', must be one character"),
        ("user: user", "user: [", "is not valid YAML"),
        ("user: user", "kind: interactions", "describes interactions, .* '--task matching'"),
    ],
)
def test_a_wrong_description_is_told_by_file_key_and_value(
    tmp_path: Path, old: str, new: str, message: str
) -> None:
    assert old in DESCRIPTION
    with pytest.raises(ValueError, match=f"columns.yaml.*{message}") as error:
        read_description(described(tmp_path, DESCRIPTION.replace(old, new)))
    assert "\n" not in str(error.value)


def test_a_missing_or_empty_description_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"none.yaml does not exist"):
        read_description(tmp_path / "none.yaml")
    with pytest.raises(ValueError, match=r"columns.yaml: the file is None, must be a mapping"):
        read_description(described(tmp_path, ""))


def test_csv_columns_labels_and_time(tmp_path: Path) -> None:
    rows = table(TableSource(csv(tmp_path, *lines(0, 8)), described(tmp_path)))
    assert "comment" not in rows.column_names
    assert rows["user"].to_pylist() == [str(i % 7) for i in range(8)]
    assert rows["price"].to_pylist()[:3] == ["NA", "0.125", "0.25"]
    assert rows["click"].to_pylist() == [0, 1] * 4
    assert rows["liked"].to_pylist() == [None, 0, 0, 0, 1, 1, None, 0]
    assert rows["when"].to_pylist() == list(range(8))


def test_files_of_a_folder_or_pattern_follow_each_other(tmp_path: Path) -> None:
    logs = tmp_path / "logs"
    logs.mkdir()
    csv(logs, *lines(10, 20), name="day-2.csv")
    csv(logs, *lines(0, 10), name="day-1.csv")
    tabs = "\n".join([HEADER, *lines(20, 30)]).replace('"so, so"', "so").replace(",", "\t")
    (logs / "day-3.tsv.gz").write_bytes(gzip.compress(tabs.encode()))
    (logs / "README").write_text("not a table")
    (logs / ".day-0.csv").write_text("hidden")
    description = described(tmp_path)
    assert table(TableSource(logs, description))["when"].to_pylist() == list(range(30))
    some = TableSource(str(logs / "day-*.csv"), description)
    assert table(some)["when"].to_pylist() == list(range(20))
    assert some.total_rows is None
    with pytest.raises(ValueError, match=r"night-\*.csv does not exist"):
        TableSource(str(logs / "night-*.csv"), description)
    (tmp_path / "nothing").mkdir()
    with pytest.raises(ValueError, match=r"nothing holds no file that ends in .csv"):
        TableSource(tmp_path / "nothing", description)


def test_without_header_and_in_another_format(tmp_path: Path) -> None:
    text = DESCRIPTION.replace(
        "user: user",
        f"user: user\nformat: {{delimiter: ';', columns: [{HEADER}], encoding: latin-1}}",
    )
    path = tmp_path / "log.txt"
    path.write_bytes("é;1;2;x;1;5;7;-\n".encode("latin-1"))
    rows = table(TableSource(path, described(tmp_path, text)))
    assert rows.select(["user", "age", "liked", "when"]).to_pylist() == [
        {"user": "é", "age": 2.0, "liked": 1, "when": 7.0}
    ]


def parquet(folder: Path, name: str = "log.parquet", **changes: object) -> Path:
    columns = {
        "user": pa.array([i % 7 for i in range(100)]),
        "price": pa.array([None if i % 4 == 0 else i / 8 for i in range(100)]),
        "age": pa.array(range(100), pa.int32()),
        "tags": pa.array([list("xyz"[: i % 4]) for i in range(100)]),
        "click": pa.array([i % 2 == 1 for i in range(100)]),
        "rating": pa.array([i % 6 or None for i in range(100)]),
        "when": pa.array(range(100)),
        **changes,
    }
    pq.write_table(pa.table(columns), folder / name)
    return folder / name


def test_csv_and_parquet_give_the_same_data_set(tmp_path: Path) -> None:
    description = described(tmp_path)
    texts = TableSource(csv(tmp_path, *lines()), description)
    typed = TableSource(parquet(tmp_path), description)
    assert (texts.total_rows, typed.total_rows) == (None, 100)
    schema = prepare(texts, tmp_path / "a", progress=False)
    assert prepare(typed, tmp_path / "b", progress=False) == schema
    for part in ("train", "validation", "test"):
        assert pq.read_table(tmp_path / "a" / part).equals(pq.read_table(tmp_path / "b" / part))
    statistics = [(tmp_path / side / "statistics.json").read_text() for side in "ab"]
    assert statistics[0] == statistics[1]
    assert json.loads(statistics[0])["parts"]["train"]["labels"]["liked"]["known"] == 50


def test_timestamps_are_seconds_and_dates_split_them(tmp_path: Path) -> None:
    day = datetime.datetime(2024, 5, 1, tzinfo=datetime.UTC)
    times = [day + datetime.timedelta(hours=i) for i in range(100)]
    text = DESCRIPTION.replace("from: 60", "from: 2024-05-03").replace("80", "2024-05-04 02:00:00")
    description = described(tmp_path, text)
    start = day.timestamp()
    for kind in (pa.timestamp("ms", "UTC"), pa.timestamp("ns")):
        source = TableSource(parquet(tmp_path, when=pa.array(times).cast(kind)), description)
        assert source.spec.split == TimeSplit(start + 48 * 3600, start + 74 * 3600)
        assert table(source)["when"].to_pylist() == [start + 3600 * i for i in range(100)]
    dates = pa.array([day.date(), None] * 50)
    rows = table(TableSource(parquet(tmp_path, when=dates), description))
    assert rows["when"].to_pylist() == [start, None] * 50


def test_bad_rows_are_named_by_file_and_row(tmp_path: Path) -> None:
    rows = lines()
    rows[4] = rows[4].replace("4,", "four,", 3)
    rows[7] += ",extra"
    path = csv(tmp_path, *rows)
    with pytest.raises(ValueError, match=r"log.csv, row (5|8): "):
        table(TableSource(path, described(tmp_path)))
    bad_rows = BadRows("quarantine")
    found = table(TableSource(path, described(tmp_path)), bad_rows)
    assert found["when"].to_pylist() == [i for i in range(100) if i not in (4, 7)]
    ratings = pa.array([str(i % 6) if i != 9 else "good" for i in range(100)])
    source = TableSource(parquet(tmp_path, rating=ratings), described(tmp_path))
    with pytest.raises(ValueError, match=r"log.parquet, row 10: column 'rating' .*\('good'\)"):
        table(source)


def test_damaged_and_incomplete_files_are_named(tmp_path: Path) -> None:
    description = described(tmp_path)
    path = parquet(tmp_path)
    path.write_bytes(path.read_bytes()[:-100])
    source = TableSource(path, description)
    for read in (lambda: source.total_rows, lambda: table(source)):
        with pytest.raises(ValueError, match=r"log.parquet is cut short or no Parquet file"):
            read()
    other = tmp_path / "other.parquet"
    pq.write_table(pa.table({"user": [1]}), other)
    with pytest.raises(ValueError, match=r"other.parquet has no column 'price'; it has user"):
        table(TableSource(other, description))
    with pytest.raises(ValueError, match=r"log.csv has no column 'age'; it has a, b"):
        table(TableSource(csv(tmp_path, header="a,b"), description))


def test_text_needs_a_separator_for_bags(tmp_path: Path) -> None:
    description = described(tmp_path, DESCRIPTION.replace(', separator: "|"', ""))
    TableSource(parquet(tmp_path), description)
    with pytest.raises(ValueError, match="field 'tags' is multi: delimited text needs its 'sep"):
        TableSource(csv(tmp_path, *lines()), description)


@pytest.mark.skipif(
    "DROPDRIFT_DATASETS" not in os.environ, reason="DROPDRIFT_DATASETS is not set: no real data"
)
def test_real_files_of_both_kinds(tmp_path: Path) -> None:
    folder = Path(os.environ["DROPDRIFT_DATASETS"])
    log = """
fields:
  - {name: user_id, kind: categorical, identifier: true, group: user}
  - {name: video_id, kind: categorical, identifier: true, group: item}
  - {name: tab, kind: categorical}
  - {name: duration_ms, kind: numeric}
labels: [is_click, long_view]
user: user_id
time: time_ms
split: {validation: 0.1, test: 0.1}
"""
    source = TableSource(
        str(folder / "KuaiRand-Pure" / "data" / "log_*.csv"), described(tmp_path, log)
    )
    schema = prepare(source, tmp_path / "log", progress=False)
    assert schema.table("duration_ms").rows == 33
    parts = json.loads((tmp_path / "log" / "statistics.json").read_text())["parts"]
    assert sum(part["rows"] for part in parts.values()) == 171_671
    assert abs(parts["test"]["rows"] - 17_167) < 200
    views = """
fields:
  - {name: user_id, kind: categorical, identifier: true, group: user}
  - {name: video_id, kind: categorical, encoding: hash, size: 5000}
labels: {real: {column: time_is_interpolated, at_least: 1}}
time: time_ms
split: {validation: 0.3, test: 0.1}
"""
    source = TableSource(folder / "kuairand_pure_long_views.parquet", described(tmp_path, views))
    assert source.total_rows == 444_122
    assert sum(batch.num_rows for batch in source.batches(BadRows())) == 444_122

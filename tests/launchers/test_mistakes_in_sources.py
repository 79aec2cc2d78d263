"""Mistakes in what ``dropdrift prepare`` reads and where it writes, end to end."""

from __future__ import annotations

import gzip
import shutil
import signal
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dropdrift.data.preparing.part_writer import PartWriter

Mistake = Callable[..., str]
Command = Callable[..., Any]

ROWS = 200
DESCRIPTION = """
fields:
  - {name: user, kind: categorical, group: user}
  - {name: price, kind: numeric, size: 4}
  - {name: tags, kind: multi, separator: "|", max_length: 3, group: item}
  - {name: seen, kind: sequence, separator: " ", max_length: 3, table: item}
  - {name: item, kind: categorical, encoding: vocabulary}
  - {name: last, kind: sequence, separator: " ", max_length: 3, table: item}
labels: [click]
user: user
time: when
split: {validation_from: 120, test_from: 160}
"""


def columns() -> dict[str, list[object]]:
    return {
        "user": [i % 9 for i in range(ROWS)],
        "price": [i / 10 for i in range(ROWS)],
        "tags": ["|".join(f"t{j}" for j in range(i % 3)) for i in range(ROWS)],
        "item": [i % 7 for i in range(ROWS)],
        "seen": [f"{i % 7} {i % 5}" for i in range(ROWS)],
        "last": [f"{i % 3}" for i in range(ROWS)],
        "click": [int(i % 4 == 0) for i in range(ROWS)],
        "when": list(range(ROWS)),
    }


def csv(**changed: list[object]) -> str:
    table = {**columns(), **changed}
    lines = [",".join(map(str, row)) for row in zip(*table.values(), strict=True)]
    return "\n".join([",".join(table), *lines, ""])


@pytest.fixture
def table(mistake: Mistake, tmp_path: Path) -> Mistake:
    """Prepares the table with changes, which must be a mistake; returns the line."""

    def run(old: str = "", new: str = "", text: str = "", source: object = None) -> str:
        assert old in DESCRIPTION
        (tmp_path / "shop.yaml").write_text(DESCRIPTION.replace(old, new) if old else DESCRIPTION)
        (tmp_path / "rows.csv").write_text(text or csv())
        return mistake(
            "prepare", "table", "--source", source or tmp_path / "rows.csv",
            "--description", tmp_path / "shop.yaml", "--out", tmp_path / "out",
        )  # fmt: skip

    return run


class TestSource:
    @pytest.mark.parametrize(
        ("layout", "expected"),
        [
            ("kuairand", "holds no log_standard_*.csv; expected the folder of KuaiRand-Pure"),
            ("criteo", "expected Criteo Kaggle's train.txt or the folder that holds it"),
            ("movielens", "expected ml-1m.zip or its folder ml-1m"),
        ],
    )
    def test_that_is_not_there_or_empty(
        self, mistake: Mistake, tmp_path: Path, layout: str, expected: str
    ) -> None:
        (tmp_path / "empty").mkdir()
        for source in (tmp_path / "none", tmp_path / "empty"):
            told = mistake("prepare", layout, "--source", source, "--out", tmp_path / "out")
            assert told.startswith(str(source))
            assert expected in told

    @pytest.mark.parametrize(
        ("layout", "expected"),
        [
            ("kuairand", "holds no log_standard_*.csv; expected"),
            ("criteo", "row 1: has a number of values other than 40"),
            ("movielens", "cannot be read (File is not a zip file); expected"),
        ],
    )
    def test_of_another_layout(
        self, mistake: Mistake, tmp_path: Path, layout: str, expected: str
    ) -> None:
        source = tmp_path / "rows.csv"
        source.write_text(csv())
        told = mistake("prepare", layout, "--source", source, "--out", tmp_path / "out")
        assert told.startswith(str(source))
        assert expected in told

    def test_of_a_zip_file_with_something_else(self, mistake: Mistake, tmp_path: Path) -> None:
        with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
            archive.writestr("a.txt", "a")
        told = mistake(
            "prepare", "movielens", "--source", tmp_path / "other.zip", "--out", tmp_path / "out"
        )
        assert "ratings.dat does not exist; expected ml-1m.zip" in told

    @pytest.mark.parametrize(
        ("label", "message"),
        [
            ("0", "label 'label' is 0 in all rows of the train part"),
            ("7", "row 1: label 'label' is 7, must be 0, 1 or missing"),
            ("x", "row 1: column 'label' holds no number ('x')"),
        ],
    )
    def test_with_impossible_labels(
        self, mistake: Mistake, tmp_path: Path, label: str, message: str
    ) -> None:
        row = "\t".join([label, *"1" * 13, *"a" * 26])
        (tmp_path / "train.txt").write_text(f"{row}\n" * 30)
        told = mistake("prepare", "criteo", "--source", tmp_path, "--out", tmp_path / "out")
        assert message in told

    def test_without_a_row(self, mistake: Mistake, tmp_path: Path) -> None:
        (tmp_path / "train.txt").write_text("a row\n" * 3)
        told = mistake(
            "prepare", "criteo", "--source", tmp_path, "--out", tmp_path / "out",
            "--bad-rows", "quarantine",
        )  # fmt: skip
        assert told == "data set 'criteo' has no row; rows set aside: 3"

    @pytest.mark.parametrize(
        ("name", "content", "message"),
        [
            ("none.csv", None, "none.csv does not exist"),
            ("empty.csv", b"", "empty.csv has no header"),
            ("header.csv", csv().split("\n")[0].encode(), "data set 'shop' has no row"),
            ("other.csv", b"a,b\n1,2\n", "other.csv has no column 'click'; it has a, b"),
            ("foreign.csv.gz", b"no gzip", "foreign.csv.gz cannot be read"),
            ("cut.csv.gz", gzip.compress(csv().encode())[:-99], "cut.csv.gz cannot be read"),
            ("text.parquet", b"a,b\n1,2\n", "text.parquet is cut short or no Parquet file"),
        ],
    )
    def test_of_a_table(
        self, table: Mistake, tmp_path: Path, name: str, content: bytes | None, message: str
    ) -> None:
        if content is not None:
            (tmp_path / name).write_bytes(content)
        assert message in table(source=tmp_path / name)

    def test_parquet_that_is_cut_short(self, table: Mistake, tmp_path: Path) -> None:
        path = tmp_path / "rows.parquet"
        pq.write_table(pa.table(columns()), path)
        path.write_bytes(path.read_bytes()[:-200])
        assert "rows.parquet is cut short or no Parquet file" in table(source=path)

    def test_parquet_with_a_list_for_one_value(self, table: Mistake, tmp_path: Path) -> None:
        path = tmp_path / "rows.parquet"
        pq.write_table(pa.table({**columns(), "user": [[1, 2]] * ROWS}), path)
        told = table(source=path)
        assert told.startswith("data set 'shop': column 'user' has type list<element: int64>")

    def test_parquet_with_views_on_text_is_no_mistake(
        self, command: Command, tmp_path: Path
    ) -> None:
        (tmp_path / "shop.yaml").write_text(DESCRIPTION)
        rows = pa.table(columns())
        views = rows.column("tags").cast(pa.string_view())
        pq.write_table(rows.set_column(2, "tags", views), tmp_path / "rows.parquet")
        ended = command(
            "prepare", "table", "--source", tmp_path / "rows.parquet",
            "--description", tmp_path / "shop.yaml", "--out", tmp_path / "out",
        )  # fmt: skip
        assert ended.code == 0, ended.messages


class TestDescription:
    @pytest.mark.parametrize(
        ("old", "new", "message"),
        [
            ("kind: numeric", "kind: number", "field 'price': kind is 'number', must be one of"),
            ("kind: numeric, ", "", "field 'price' has no key 'kind'"),
            ("size: 4", "sise: 4", "field 'price' has the unknown key 'sise'; did you mean 'size'"),
            ("size: 4", "size: four", "field 'price': size is 'four', must be of type int"),
            ("size: 4", "encoding: hash", "numeric fields, and no others, have encoding 'buckets'"),
            ("encoding: vocabulary", "encoding: hsh", "encoding is 'hsh', must be one of"),
            ("encoding: vocabulary", "min_count: 0", "min_count is 0, must be positive"),
            ("group: user", "group: thing", "field 'user': group is 'thing', must be one of"),
            ('separator: "|", ', "", "field 'tags' is multi: delimited text needs its 'separator'"),
            ("name: price", "name: user", "field 'user' is listed 2 times"),
            ("name: price", "name: click", "'click' is both a field and a label"),
            (
                "3, table: item}\n  - {name: item",
                "3, table: itme}\n  - {name: item",
                "field 'seen': no other field uses table 'itme'; did you mean 'item'?",
            ),
            ("labels: [click]", "labels: []", "has no label"),
            ("labels: [click]", "labels: [click, click]", "label 'click' is listed 2 times"),
            ("labels: [click]", "labels: {c: {col: click}}", "label 'c' has the unknown key 'col'"),
            ("time: when", "tiem: when", "the unknown key 'tiem'; did you mean 'time'?"),
            ("test_from: 160", "test_from: 120", "validation_from 120.0 is not before test_from"),
            ("test_from: 160", "test_from: 2024-13-45", "is not valid YAML: month must be in"),
            (
                "time: when",
                "time: when\nformat: {delimiter: '::'}",
                "delimiter is '::', must be one character",
            ),
            ("fields:", "- a", "is not valid YAML"),
        ],
    )
    def test_that_is_wrong_names_its_file(
        self, table: Mistake, tmp_path: Path, old: str, new: str, message: str
    ) -> None:
        told = table(old, new)
        assert told.startswith(str(tmp_path / "shop.yaml"))
        assert message in told

    @pytest.mark.parametrize(
        ("old", "new", "message"),
        [
            ("name: price", "name: prize", "rows.csv has no column 'prize'; it has user, price"),
            ("labels: [click]", "labels: [buy]", "rows.csv has no column 'buy'; it has user"),
            ("user: user\n", "user: usr\n", "rows.csv has no column 'usr'; it has user"),
            ("time: when", "time: tags", "rows.csv, row 2: column 'tags' holds no number ('t0')"),
            (
                "test_from: 160",
                "test_from: 500",
                "the test part is empty: validation begins at 120",
            ),
            ("validation_from: 120", "validation_from: -1", "the train part is empty"),
            (
                "labels: [click]",
                "labels: {c: {column: click, at_least: 9}}",
                "label 'c' is 0 in all",
            ),
            ("time: when", "time: when\nformat: {delimiter: ';'}", "it has user,price,tags"),
            ("time: when", "time: when\nformat: {quote: ','}", "delimiter and quote are both ','"),
            ("time: when", "time: when\nformat: {encoding: klingon}", "unknown encoding"),
            ("time: when", "time: when\nformat: {encoding: utf-16}", "rows.csv cannot be read"),
        ],
    )
    def test_that_does_not_fit_the_rows(
        self, table: Mistake, old: str, new: str, message: str
    ) -> None:
        assert message in table(old, new)

    def test_that_is_not_there(self, mistake: Mistake, tmp_path: Path) -> None:
        (tmp_path / "rows.csv").write_text(csv())
        told = mistake(
            "prepare", "table", "--source", tmp_path / "rows.csv",
            "--description", tmp_path / "none.yaml", "--out", tmp_path / "out",
        )  # fmt: skip
        assert told == f"{tmp_path / 'none.yaml'} does not exist"


SYNTHETIC = ("prepare", "synthetic", "--rows", 60, "--users", 9, "--songs", 9)


class TestOut:
    def test_that_is_taken(self, mistake: Mistake, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("mine")
        (tmp_path / "mine").mkdir()
        (tmp_path / "mine/notes.txt").write_text("mine")
        for out in (tmp_path / "file", tmp_path / "mine"):
            told = mistake(*SYNTHETIC, "--out", out)
            assert told == f"{out} exists already: choose another folder or give '--overwrite'"
            told = mistake(*SYNTHETIC, "--out", out, "--overwrite")
            assert f"{out} holds no prepared data set" in told
        assert str(tmp_path / "file") in mistake(*SYNTHETIC, "--out", tmp_path / "file" / "out")

    def test_a_run_is_never_overwritten(
        self, mistake: Mistake, prepared_folder: Path, tmp_path: Path
    ) -> None:
        run = tmp_path / "run"
        run.mkdir()
        shutil.copy(prepared_folder / "schema.yaml", run)
        (run / "config.yaml").write_text("loop: {epochs: 9}")
        told = mistake(*SYNTHETIC, "--out", run, "--overwrite")
        assert f"{run} holds no prepared data set" in told
        assert (run / "config.yaml").is_file()

    def test_an_interruption_leaves_nothing(
        self, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def interrupt(*_: object) -> None:
            signal.raise_signal(signal.SIGINT)

        monkeypatch.setattr(PartWriter, "add", interrupt)
        ended = command(*SYNTHETIC, "--out", tmp_path / "out")
        assert ended.code == 130
        assert ended.messages.endswith("dropdrift: interrupted\n")
        assert list(tmp_path.iterdir()) == []


class TestDemo:
    @pytest.mark.parametrize("folder", ["data", "dcnv2"])
    def test_replaces_nothing_that_it_has_not_made(
        self, mistake: Mistake, tmp_path: Path, folder: str
    ) -> None:
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "notes.txt").write_text("mine")
        told = mistake("demo", "--out", tmp_path, "--rows", 60, "--seeds", 1)
        assert f"{tmp_path / folder}" in told
        assert (tmp_path / folder / "notes.txt").read_text() == "mine"

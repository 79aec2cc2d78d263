import gzip
from pathlib import Path

import pyarrow as pa
import pytest

from dropdrift.data.adaptors.delimited import header_of, read_delimited
from dropdrift.data.quarantine import BadRows


def read(path: Path, **options: object) -> pa.Table:
    options = {"bad_rows": BadRows(), **options}
    return pa.Table.from_batches(read_delimited(path, **options))  # type: ignore[arg-type]  # tests


def written(folder: Path, content: bytes, name: str = "log.csv") -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


def test_columns_are_text_and_numeric_ones_are_numbers(tmp_path: Path) -> None:
    path = written(tmp_path, b'id,price,name\r\n007, 1.5 ,"a, b"\r\n,,""\r\n')
    assert read(path, numeric={"price"}).to_pydict() == {
        "id": ["007", None],
        "price": [1.5, None],
        "name": ["a, b", None],
    }


def test_without_header_the_columns_are_named_and_selected(tmp_path: Path) -> None:
    path = written(tmp_path, b"1\t2\t3\n4\t5\t6\n")
    table = read(path, columns=["a", "b", "c"], delimiter="\t", select={"c", "a"})
    assert table.to_pydict() == {"a": ["1", "4"], "c": ["3", "6"]}


def test_compression_encoding_and_byte_order_mark(tmp_path: Path) -> None:
    packed = written(tmp_path, gzip.compress("\ufeffa,b\né,1\n".encode()), "log.csv.gz")
    assert read(packed).to_pydict() == {"a": ["é"], "b": ["1"]}
    latin = written(tmp_path, "a,b\né,1\n".encode("latin-1"))
    assert read(latin, encoding="latin-1").to_pydict() == {"a": ["é"], "b": ["1"]}
    with pytest.raises(ValueError, match="unknown encoding 'latin-77'"):
        read(latin, encoding="latin-77")


def test_bad_rows_are_counted_under_their_number_in_the_file(tmp_path: Path) -> None:
    lines = [b"x,y", b"1,1", b"2", b"", b"3,3", b"4,abc", b"\xff,5", b"6,6,6", b"7,7", b"8"]
    path = written(tmp_path, b"\n".join(lines))
    bad_rows = BadRows("quarantine")
    assert read(path, numeric={"y"}, bad_rows=bad_rows).to_pydict() == {
        "x": ["1", "3", "7"],
        "y": [1.0, 3.0, 7.0],
    }
    assert bad_rows.reasons == {
        "has a number of values other than 2": 3,
        "column 'y' holds no number": 1,
        "column 'x' holds bytes that are not in the file's encoding": 1,
    }
    bad_rows.save(tmp_path / "bad.jsonl")
    rows = [line.split('"row": ')[1] for line in (tmp_path / "bad.jsonl").read_text().splitlines()]
    assert sorted(int(row.split(",")[0]) for row in rows) == [2, 4, 5, 6, 8]


def test_row_numbers_hold_over_many_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dropdrift.data.adaptors.delimited.BLOCK_BYTES", 100)
    lines = [
        b"1,2,3" if i % 41 == 0 else b"%d,%s" % (i, b"x" if i % 97 == 0 else b"1")
        for i in range(1, 2001)
    ]
    path = written(tmp_path, b"a,b\n" + b"\n".join(lines) + b"\n")
    bad_rows = BadRows("quarantine")
    table = read(path, numeric={"a", "b"}, bad_rows=bad_rows)
    expected = [i for i in range(1, 2001) if i % 41 and i % 97]
    assert table["a"].to_pylist() == expected
    listed = {entry["row"] for entry in bad_rows._listed}
    assert listed == set(range(1, 2001)) - set(expected)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a,b\n1,2\n3\n", r"log.csv, row 2: has a number of values other than 2 \('3'\)"),
        (b"a,b\n1,x\n", r"log.csv, row 1: column 'b' holds no number \('x'\)"),
        (b"a,b\n1,1_0\n", r"log.csv, row 1: column 'b' holds no number \('1_0'\)"),
        (b"", "log.csv has no header"),
        (b"a,c\n1,2\n", "log.csv has no column 'b'; it has a, c"),
        (b"a,b,b\n1,2,3\n", "log.csv has the column 'b' more than once"),
        (b'b,a\n1,2\n2,"3\n4,5\n6,7\n', "log.csv: a quote is never closed"),
    ],
)
def test_strict_mode_names_file_row_and_value(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read(written(tmp_path, content), numeric={"b"})


def test_missing_and_damaged_files(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"none.csv does not exist"):
        read(tmp_path / "none.csv")
    whole = gzip.compress(b"a,b\n" + b"".join(b"%d,%d\n" % (i, i * i) for i in range(10_000)))
    cut = written(tmp_path, whole[: len(whole) // 2], "cut.csv.gz")
    with pytest.raises(ValueError, match=r"cut.csv.gz cannot be read"):
        read(cut)


def test_a_header_alone_has_no_rows(tmp_path: Path) -> None:
    path = written(tmp_path, b"a,b\n")
    assert list(read_delimited(path, bad_rows=BadRows())) == []
    assert header_of(path) == ["a", "b"]


def test_a_quoted_value_may_hold_line_breaks(tmp_path: Path) -> None:
    path = written(tmp_path, b'a,b\n1,"x\ny"\n2,z\n')
    assert read(path).to_pydict() == {"a": ["1", "2"], "b": ["x\ny", "z"]}
    unquoted = written(tmp_path, b'a,b\n1,"x\n2,z\n')
    assert read(unquoted, quote="").to_pydict() == {"a": ["1", "2"], "b": ['"x', "z"]}

import os
from pathlib import Path
from typing import Literal

import pandas as pd
import pyarrow as pa
import pytest

from dropdrift.data.adaptors.criteo import CATEGORIES, INTEGERS, CriteoSource
from dropdrift.data.preparing.prepare import prepare
from dropdrift.data.quarantine import BadRows
from dropdrift.data.source import FractionSplit

FULL = "\t".join(["1", *(str(i) for i in range(13)), *(f"{i:08x}" for i in range(26))])
HOLES = "\t".join(["0", "-2", *[""] * 12, "68fd1e64", *[""] * 25])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "train.txt").write_text(f"{FULL}\n{HOLES}\n{FULL}\n")
    return tmp_path


def read(source: CriteoSource, bad_rows: BadRows | None = None) -> pd.DataFrame:
    return pa.Table.from_batches(list(source.batches(bad_rows or BadRows()))).to_pandas()


def test_official_columns_in_the_order_of_the_file(folder: Path) -> None:
    source = CriteoSource(folder / "train.txt")
    rows = read(source)
    assert list(rows) == ["label", *INTEGERS, *CATEGORIES]
    assert [field.name for field in source.spec.fields] == [*INTEGERS, *CATEGORIES]
    assert rows["label"].tolist() == [1, 0, 1]
    assert rows.loc[0, "I13"] == 12
    assert rows.loc[0, "C26"] == "00000019"


def test_an_empty_value_is_missing(folder: Path) -> None:
    row = read(CriteoSource(folder)).iloc[1]
    assert row.notna().sum() == 3
    assert row["I1"] == -2
    assert row["C1"] == "68fd1e64"


def test_parts_are_shares_of_the_file(folder: Path) -> None:
    spec = CriteoSource(folder).spec
    assert isinstance(spec.split, FractionSplit)
    assert (spec.user, spec.time) == ("", "")


@pytest.mark.parametrize("encoding", ["vocabulary", "hash"])
def test_categories_are_counted_or_hashed(
    folder: Path, encoding: Literal["vocabulary", "hash"]
) -> None:
    spec = CriteoSource(folder, encoding, min_count=7, hash_rows=50).spec
    category = spec.fields[-1]
    assert category.encoding == encoding
    assert (category.min_count, category.size) == ((7, 0) if encoding == "vocabulary" else (1, 50))


def test_a_missing_file_is_named_with_the_layout(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"train.txt does not exist; expected Criteo Kaggle's"):
        read(CriteoSource(tmp_path))


@pytest.mark.parametrize("line", [HOLES.replace("-2", "many"), HOLES.split("\t", 1)[1]])
def test_a_bad_row_is_named_or_set_aside(folder: Path, line: str) -> None:
    with (folder / "train.txt").open("a") as stream:
        stream.write(f"{line}\n{FULL}\n")
    with pytest.raises(ValueError, match=r"train.txt, row 4: "):
        read(CriteoSource(folder))
    bad_rows = BadRows("quarantine")
    assert len(read(CriteoSource(folder), bad_rows)) == 4
    assert bad_rows.count == 1


def test_options_are_checked(folder: Path) -> None:
    with pytest.raises(ValueError, match="min_count is 0, must be at least 1"):
        CriteoSource(folder, min_count=0)
    with pytest.raises(ValueError, match="hash_rows is 1, must be at least 2"):
        CriteoSource(folder, hash_rows=1)


@pytest.mark.skipif("DROPDRIFT_DATASETS" not in os.environ, reason="DROPDRIFT_DATASETS is not set")
def test_real_sample(tmp_path: Path) -> None:
    folder = Path(os.environ["DROPDRIFT_DATASETS"]) / "criteo-sample"
    rows = read(CriteoSource(folder))
    assert len(rows) == 10_000
    assert rows.drop(columns="label").isna().to_numpy().mean() == pytest.approx(0.1457, abs=1e-3)
    schema = prepare(CriteoSource(folder), tmp_path / "out", progress=False)
    assert len(schema.fields) == 39

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dropdrift.data.encoding.encoder import Encoder, EncodingReport, FieldCounts, encode_users
from dropdrift.data.encoding.vocabulary import Vocabulary, hash_texts, vocabulary_path
from dropdrift.data.schema import Encoding, Field, Schema, Table

CITIES = Vocabulary(pa.array(["oslo", "4", "bern"]), np.array([5, 2, 2]))
TAGS = Vocabulary(pa.array(["1", "2", "3"]), np.array([3, 2, 1]))
SCHEMA = Schema(
    name="toy",
    fields=(
        Field("city", "categorical", "city", missing_codes=("-124",)),
        Field("word", "categorical", "word"),
        Field("price", "numeric", "price", missing_codes=("-1", "NA")),
        Field("tags", "multi", "tag", separator="|", max_length=2),
        Field("history", "sequence", "tag", separator=" ", max_length=2),
    ),
    tables=(
        Table("city", 4, 8, Encoding("vocabulary", digest=CITIES.digest)),
        Table("word", 101, 8, Encoding("hash")),
        Table("price", 5, 8, Encoding("buckets", edges=(0.0, 1.0, 2.5))),
        Table("tag", 4, 8, Encoding("vocabulary", digest=TAGS.digest)),
    ),
    labels=("click",),
)
ENCODER = Encoder(SCHEMA, {"city": CITIES, "tag": TAGS})


def encode(**columns: object) -> dict[str, list[object]]:
    table = ENCODER.encode(pa.table(columns))
    return {name: table.column(name).to_pylist() for name in columns}


def test_vocabulary_ids_are_the_same_for_text_integers_and_floats() -> None:
    assert encode(city=["oslo", " bern ", "4", "4.0", "rome", "", None, "-124"]) == {
        "city": [1, 3, 2, 2, 0, None, None, None]
    }
    assert encode(city=[4, -124, 5, None]) == {"city": [2, None, 0, None]}
    assert encode(city=[4.0, math.nan, 4.5]) == {"city": [2, None, 0]}


def test_hash_ids_are_those_of_the_pandas_hash() -> None:
    words = [f"w{i}" for i in range(500)]
    expected = 1 + pd.util.hash_array(np.array(words, dtype=object), categorize=True) % 100
    assert encode(word=words)["word"] == expected.tolist()
    assert encode(word=[7, None])["word"] == [encode(word=["7"])["word"][0], None]


def test_bucket_ids_count_the_edges_that_are_not_above() -> None:
    prices = [-1e9, 0.0, 0.99, 1.0, 2.5, 1e9, math.nan, math.inf, None, -1.0]
    expected = [1, 2, 2, 3, 4, 4, None, None, None, None]
    assert encode(price=prices)["price"] == expected
    texts = [None if p is None else str(p) for p in prices]
    assert encode(price=texts)["price"] == expected
    assert encode(price=["NA", "2", "-1.0"])["price"] == [None, 3, None]


def test_bags_come_from_lists_and_from_text() -> None:
    expected = [[1, 2], [0], [], [], [3, 1]]
    assert encode(tags=["1|2|3", "9", "", None, "| 3 |1"])["tags"] == expected
    assert encode(tags=[[1, 2, 3], [9], [], None, [None, 3, 1]])["tags"] == expected
    assert encode(tags=[2, None])["tags"] == [[2], []]


def test_a_sequence_keeps_its_newest_values_in_order() -> None:
    assert encode(history=["1 2 3", "3", ""])["history"] == [[2, 3], [3], []]
    sliced = pa.array([["1"], ["1", "2", "3"], ["3"]], pa.large_list(pa.string()))[1:]
    assert encode(history=sliced)["history"] == [[2, 3], [3]]


@given(st.lists(st.lists(st.sampled_from(["1", "2", "3", "x", ""]))))
def test_bags_equal_a_row_by_row_encoding(rows: list[list[str]]) -> None:
    ids = {"1": 1, "2": 2, "3": 3, "x": 0}
    encoded = [[ids[v] for v in row if v] for row in rows]
    lists = pa.array(rows, pa.list_(pa.string()))
    assert encode(tags=lists)["tags"] == [row[:2] for row in encoded]
    assert encode(history=lists)["history"] == [row[-2:] for row in encoded]


def test_absent_columns_are_missing_and_reported() -> None:
    report = EncodingReport()
    for _ in range(2):
        batch = pa.table(
            {"city": ["oslo", "rome", ""], "price": ["1", "?", None], "other": [1, 2, 3]}
        )
        table = ENCODER.encode(batch, report)
    assert table.column_names == list(SCHEMA.field_names)
    assert table.column("word").to_pylist() == [None] * 3
    assert table.column("tags").to_pylist() == [[]] * 3
    assert report.absent == ["word", "tags", "history"]
    assert report.fields["city"] == FieldCounts(rows=6, missing=2, ids=4, out_of_vocabulary=2)
    assert report.fields["price"] == FieldCounts(rows=6, missing=4, ids=2, unparsable=2)
    assert report.fields["history"] == FieldCounts(rows=6, missing=6)


def test_types_and_empty_batches() -> None:
    table = ENCODER.encode(pa.table({"city": pa.array([], pa.string())}))
    assert table.num_rows == 0
    assert [str(f.type) for f in table.schema] == ["int32"] * 3 + ["list<item: int32>"] * 2


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"city": [["a"]]}, "column 'city' has type list<item: string>, .*categorical"),
        ({"price": [["a"]]}, "column 'price' has type list<item: string>, .*numeric"),
        ({"tags": [[["a"]]]}, "column 'tags' has type list<.*multi"),
    ],
)
def test_a_column_of_the_wrong_type_is_named(columns: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        encode(**columns)


def test_user_codes_do_not_depend_on_the_type() -> None:
    codes = encode_users(pa.array(["17", "18", None, "17"])).to_pylist()
    assert codes == encode_users(pa.array([17, 18, None, 17])).to_pylist()
    assert codes[0] == codes[3] != codes[1]
    assert codes[2] == 0
    assert all(0 < code < 2**63 for code in codes if code)


def saved(directory: Path) -> Path:
    SCHEMA.save(directory)
    CITIES.save(directory, "city")
    TAGS.save(directory, "tag")
    return directory


def test_an_encoder_is_loaded_from_its_folder(tmp_path: Path) -> None:
    loaded = Encoder.load(saved(tmp_path))
    batch = pa.table({"city": ["oslo", "rome"], "tags": ["1|2", "3"], "word": ["a", "b"]})
    assert loaded.encode(batch).equals(ENCODER.encode(batch))


def test_a_missing_damaged_or_foreign_vocabulary_is_named(tmp_path: Path) -> None:
    path = vocabulary_path(saved(tmp_path), "city")
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(ValueError, match=r"city.parquet cannot be read"):
        Encoder.load(tmp_path)
    TAGS.save(tmp_path, "city")
    with pytest.raises(ValueError, match=r"city.parquet is not the vocabulary that table 'city'"):
        Encoder.load(tmp_path)
    path.unlink()
    with pytest.raises(ValueError, match=r"city.parquet does not exist"):
        Encoder.load(tmp_path)


def test_a_digest_depends_on_values_order_and_their_borders() -> None:
    def digest(*values: str) -> str:
        return Vocabulary(pa.array(values, pa.string()), np.zeros(len(values), np.int64)).digest

    several = {digest("ab", "c"), digest("a", "bc"), digest("c", "ab"), digest("ab"), digest()}
    assert len(several) == 5
    sliced = Vocabulary(pa.array(["x", "ab", "c", "y"])[1:3], np.zeros(2, np.int64))
    assert sliced.digest == digest("ab", "c")


def test_a_large_vocabulary_finds_every_value_and_no_other() -> None:
    values = pa.array([str(i) for i in range(50_000)])
    vocabulary = Vocabulary(values, np.ones(50_000, np.int64))
    assert np.array_equal(vocabulary.ids(values), np.arange(1, 50_001))
    assert not vocabulary.ids(pa.array([f"n{i}" for i in range(1000)])).any()
    assert len(np.unique(hash_texts(values))) == 50_000

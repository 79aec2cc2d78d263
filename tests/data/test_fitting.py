import math

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dropdrift.data.encoding.vocabulary import Vocabulary
from dropdrift.data.preparing import fitting
from dropdrift.data.preparing.fitting import Fitter, ValueCounter, quantile_edges
from dropdrift.data.preparing.reservoir import Reservoir
from dropdrift.data.schema import Schema
from dropdrift.data.source import DatasetSpec, FieldSpec, FractionSplit


def fit(
    fields: list[FieldSpec], *batches: dict[str, object]
) -> tuple[Schema, dict[str, Vocabulary]]:
    fitter = Fitter(DatasetSpec("toy", tuple(fields), ("click",), FractionSplit()))
    for batch in batches:
        fitter.add(pa.RecordBatch.from_pydict(batch))
    return fitter.fitted()


def test_a_vocabulary_is_ordered_by_frequency_then_value() -> None:
    field = FieldSpec("x", "categorical", "vocabulary")
    schema, vocabularies = fit([field], {"x": ["b", "a", "c", None]}, {"x": ["c", "10", "2", "c"]})
    assert vocabularies["x"].values.to_pylist() == ["c", "10", "2", "a", "b"]
    assert vocabularies["x"].counts.tolist() == [3, 1, 1, 1, 1]
    table = schema.table("x")
    assert table.rows == 6
    assert table.encoding.digest == vocabularies["x"].digest
    assert schema.field("x").missing_rate == 1 / 8
    assert schema.field("x").pooling_factor == 7 / 8


def test_a_vocabulary_keeps_the_most_frequent_and_frequent_enough() -> None:
    values = {"x": ["a"] * 4 + ["b"] * 3 + ["c"] * 3 + ["d"]}
    for size, min_count, kept in [(2, 1, ["a", "b"]), (0, 3, ["a", "b", "c"]), (0, 9, [])]:
        field = FieldSpec("x", "categorical", "vocabulary", size=size, min_count=min_count)
        schema, vocabularies = fit([field], values)
        assert vocabularies["x"].values.to_pylist() == kept
        assert schema.table("x").rows == max(2, len(kept) + 1)


def test_fields_that_share_a_table_are_counted_together() -> None:
    item = FieldSpec("item", "categorical", "vocabulary")
    history = FieldSpec("history", "sequence", "vocabulary", table="item", max_length=2)
    schema, vocabularies = fit(
        [item, history], {"item": ["a", "b"], "history": [["z", "b", "c"], []]}
    )
    assert vocabularies["item"].values.to_pylist() == ["b", "a", "c"]  # z is cut off
    assert [f.table for f in schema.fields] == ["item", "item"]
    assert schema.field("history").pooling_factor == 1.0
    assert schema.field("history").missing_rate == 0.5


def test_constant_and_missing_columns_have_tables_of_two_rows() -> None:
    fields = [
        FieldSpec("constant", "numeric", "buckets", size=8),
        FieldSpec("nothing", "numeric", "buckets", size=8),
        FieldSpec("never", "categorical", "vocabulary"),
        FieldSpec("empty", "multi", "vocabulary", max_length=3),
        FieldSpec("hashed", "categorical", "hash", size=100),
    ]
    schema, _ = fit(
        fields,
        {
            "constant": [7.0, 7.0],
            "nothing": pa.array([None, None], pa.float64()),
            "never": pa.nulls(2),
            "empty": [[], None],
            "hashed": ["a", None],
        },
    )
    assert [table.rows for table in schema.tables] == [2, 2, 2, 2, 100]
    assert [field.missing_rate for field in schema.fields] == [0, 1, 1, 1, 0.5]


def test_numeric_missing_codes_are_no_quantiles() -> None:
    field = FieldSpec("x", "numeric", "buckets", size=4, missing_codes=("-1",))
    schema, _ = fit([field], {"x": [-1.0, -1.0, -1.0, 1.0, 2.0, 3.0, 4.0]})
    assert schema.table("x").encoding.edges == (2.0, 3.0, 4.0)


@given(st.lists(st.integers(-20, 20).map(float), min_size=1, max_size=200), st.integers(2, 40))
def test_edges_leave_no_bucket_empty(values: list[float], buckets: int) -> None:
    ordered = np.sort(np.array(values))
    edges = quantile_edges(ordered, buckets)
    assert len(edges) < buckets
    assert list(edges) == sorted(set(edges))
    occupied = np.unique(np.searchsorted(edges, ordered, side="right"))
    assert len(occupied) == len(edges) + 1


def test_edges_cut_distinct_values_into_equal_buckets() -> None:
    edges = quantile_edges(np.arange(3200.0), 32)
    assert edges == tuple(np.arange(100.0, 3200.0, 100.0))
    assert quantile_edges(np.array([]), 32) == ()


@given(st.lists(st.lists(st.sampled_from("abcdefgh"), max_size=30), max_size=20))
def test_counts_do_not_depend_on_the_batches(batches: list[list[str]]) -> None:
    counter = ValueCounter("x")
    for batch in batches:
        counter.add(pa.array(batch, pa.string()), np.ones(len(batch), np.int64))
    vocabulary = counter.vocabulary(0, 1)
    everything = [value for batch in batches for value in batch]
    expected = sorted({(-everything.count(v), v) for v in everything})
    assert vocabulary.values.to_pylist() == [value for _, value in expected]
    assert vocabulary.counts.tolist() == [-count for count, _ in expected]


def test_too_many_distinct_values_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fitting, "MAX_DISTINCT", 100)
    monkeypatch.setattr(fitting, "_PENDING", 10)
    values = {"x": [str(i) for i in range(101)]}
    field = FieldSpec("x", "categorical", "vocabulary")
    with pytest.raises(ValueError, match=r"table 'x' has more than 100 distinct values.*'hash'"):
        fit([field], values)


def test_a_reservoir_is_exact_until_it_is_full() -> None:
    reservoir = Reservoir(1000, np.random.default_rng(1))
    for start in range(0, 1000, 300):
        reservoir.add(np.arange(start, min(start + 300, 1000), dtype=np.float64))
    assert np.array_equal(reservoir.sorted_sample(), np.arange(1000))


def test_a_full_reservoir_is_a_uniform_sample() -> None:
    reservoir = Reservoir(2000, np.random.default_rng(1))
    for start in range(0, 100_000, 777):
        reservoir.add(np.arange(start, min(start + 777, 100_000), dtype=np.float64))
    sample = reservoir.sorted_sample()
    assert len(np.unique(sample)) == 2000
    # Mean and tenth parts within five standard deviations of a uniform sample's.
    assert abs(sample.mean() - 50_000) < 5 * 100_000 / math.sqrt(12 * 2000)
    tenths = np.bincount((sample // 10_000).astype(int))
    assert np.all(np.abs(tenths - 200) < 5 * math.sqrt(2000 * 0.1 * 0.9))

from __future__ import annotations

import pytest
import torch
from torch import nn

from dropdrift.data.schema import Encoding, Field, Schema, Table
from dropdrift.sharding.calibration.config import CalibrationConfig
from dropdrift.sharding.calibration.lookups import lookup_operator, measure_lookups, random_bags
from dropdrift.sharding.calibration.tables import LookupTable, tables_of

CPU = torch.device("cpu")


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(5)


@pytest.fixture
def one_thread():
    """More than one wait for each other where other programs run."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.usefixtures("one_thread")
def test_times_are_positive_and_grow_with_the_ids():
    done: list[str] = []
    tables = [LookupTable("one", 20_000, 16), LookupTable("many", 20_000, 16, (200.0,))]
    one, many = measure_lookups(tables, 2048, CPU, CalibrationConfig(5), advance=done.append)
    assert done == ["one", "many"]
    for timing in (one, many):
        assert (timing.rows, timing.rows_per_rank, timing.ranks) == (20_000, 2048, 1)
        assert not timing.is_cut
        for times in (timing.forward_ms, timing.backward_ms):
            assert len(times) == 5
            assert min(times) > 0
    # 200 times the ids; the fastest repetition is the least disturbed.
    assert min(many.forward_ms) > 2 * min(one.forward_ms)
    assert min(many.backward_ms) > 2 * min(one.backward_ms)


def test_a_large_table_is_cut_and_says_so():
    large, small = LookupTable("large", 10**9, 128), LookupTable("small", 10, 4)
    cut, whole = measure_lookups([large, small], 8, CPU, CalibrationConfig(1, 100))
    assert cut.table.rows == 10**9
    assert cut.rows == 100
    assert cut.is_cut
    assert whole.rows == 10
    assert not whole.is_cut


def test_bags_have_the_pooling_factors_on_average():
    table = LookupTable("table", 1000, 8, (0.25, 1.0, 3.5))
    ids, offsets = random_bags(table, 40, 4_000, generator())
    lengths = offsets.diff().view(3, 4_000)
    assert offsets[0] == 0
    assert offsets[-1] == len(ids)
    assert set(lengths[0].tolist()) == {0, 1}
    assert set(lengths[1].tolist()) == {1}
    assert set(lengths[2].tolist()) == {3, 4}
    torch.testing.assert_close(
        lengths.double().mean(1), torch.tensor([0.25, 1, 3.5]).double(), atol=0.03, rtol=0
    )
    # Uniform: each of 40 rows has about 475 of the 19,000 ids.
    counts = ids.bincount(minlength=40)
    assert len(counts) == 40
    assert counts.min() > 350
    assert counts.max() < 600


@pytest.mark.parametrize("pooling", ["sum", "mean"])
def test_the_operator_looks_up_and_updates_as_rowwise_adagrad(pooling):
    table = LookupTable("table", 30, 8, (2.5, 1.0), pooling=pooling)
    operator = lookup_operator(table, 30, CPU)
    (weight,) = operator.split_embedding_weights()
    plain = nn.EmbeddingBag.from_pretrained(weight.clone(), freeze=False, mode=pooling)
    ids, offsets = random_bags(table, 30, 6, generator())
    vectors = operator(ids, offsets)
    # Of the operator, batch x (features x width); of the module, (features x batch) x width.
    expected = plain(ids, offsets[:-1]).view(2, 6, 8).transpose(0, 1).flatten(1)
    torch.testing.assert_close(vectors, expected)
    # Not alike along a row: Adagrad with a state per number would do the same otherwise.
    upstream = torch.randn(6, 16, generator=generator())
    vectors.backward(upstream)
    expected.backward(upstream)
    gradient = plain.weight.grad
    assert gradient is not None
    # From a state of 0: one number per row, the root of the mean square.
    scale = gradient.square().mean(1, keepdim=True).sqrt() + 1e-8
    torch.testing.assert_close(weight, plain.weight.detach() - 0.01 * gradient / scale)


def test_tables_of_a_schema_have_the_factors_of_their_fields():
    schema = Schema(
        name="small",
        fields=(
            Field("item", "categorical", "item", pooling_factor=0.9),
            Field("history", "sequence", "item", max_length=20, pooling_factor=7.25),
            Field("never", "categorical", "never", pooling_factor=0.0),
        ),
        tables=(
            Table("item", 300, 16, Encoding("vocabulary"), pooling="sum"),
            Table("never", 20, 8, Encoding("hash")),
        ),
        labels=("click",),
    )
    assert tables_of(schema) == [
        LookupTable("item", 300, 16, (0.9, 7.25), "sum"),
        LookupTable("never", 20, 8, (1e-3,), "mean"),
    ]


def test_what_cannot_be_measured_is_refused():
    with pytest.raises(ValueError, match="there are no tables to measure"):
        measure_lookups([], 2, CPU, CalibrationConfig())
    with pytest.raises(ValueError, match="rows per rank is 0"):
        measure_lookups([LookupTable("t", 9, 4)], 0, CPU, CalibrationConfig())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 4), "table 't': rows is 0"),
        ((5, 6), "table 't': width is 6"),
        ((5, 0), "table 't': width is 0"),
        ((5, 4, ()), "table 't' has no pooling factor"),
        ((5, 4, (1.0, 0.0)), "table 't': pooling factor is 0"),
    ],
)
def test_a_table_that_cannot_be_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        LookupTable("t", *arguments)

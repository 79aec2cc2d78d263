"""Which tables stand for all."""

from __future__ import annotations

import pytest

from dropdrift.sharding.calibration.tables import LookupTable, chosen_tables


def names(tables: list[LookupTable]) -> str:
    return " ".join(table.name for table in tables)


# Reads: b 80, e 64, a 16, f 16, c 8, d 8. Sizes: d < c < a < f.
TABLES = [
    LookupTable("a", 1_000, 16),
    LookupTable("b", 10, 8, (5.0, 5.0)),
    LookupTable("c", 1_000, 8),
    LookupTable("d", 900, 8),
    LookupTable("e", 10**6, 64),
    LookupTable("f", 2_000, 16),
]


def test_few_are_all_measured_though_they_are_equal():
    tables = [LookupTable("a", 10, 4), LookupTable("b", 10, 4)]
    assert chosen_tables(tables, 2, 100) == tables


def test_of_more_only_different_ones_are():
    tables = [
        LookupTable("a", 10, 4),
        LookupTable("b", 20, 4),
        LookupTable("c", 10, 4),
        LookupTable("d", 10, 4, pooling="sum"),
        LookupTable("e", 20, 4, (2.0,)),
        LookupTable("f", 20, 4),
    ]
    assert names(chosen_tables(tables, 5, 100)) == "a b d e"


def test_cut_tables_are_equal_where_they_are_measured():
    tables = [LookupTable("a", 200, 4), LookupTable("b", 300, 4), LookupTable("c", 400, 4)]
    assert names(chosen_tables(tables, 2, 250)) == "a b"
    assert names(chosen_tables(tables, 2, 100)) == "a"


@pytest.mark.parametrize(
    ("most", "chosen"), [(1, "b"), (2, "b d"), (3, "b d e"), (4, "b d e f"), (5, "a b d e f")]
)
def test_of_still_more_the_busiest_and_some_of_each_size(most, chosen):
    """Of 5, three are the busiest: b, e, and a before f by name; of the rest smallest, largest."""
    assert names(chosen_tables(TABLES, most, 10**6)) == chosen


def test_the_order_of_the_tables_does_not_count():
    assert set(chosen_tables(TABLES[::-1], 4, 10**6)) == set(chosen_tables(TABLES, 4, 10**6))

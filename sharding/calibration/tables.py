"""The embedding tables whose lookups are measured and estimated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from dropdrift.data.schema import WIDTH_UNIT, Pooling, Schema
from dropdrift.sharding.constraints import LEAST_POOLING_FACTOR


@dataclass(frozen=True)
class LookupTable:
    """One table and what is looked up in it.

    Attributes:
        name: of the table.
        rows: of the table.
        width: numbers in a row.
        pooling_factors: mean number of ids per row of a batch, of each feature that reads the
            table; a feature is one bag per row of a batch.
        pooling: how the vectors of a bag become one.
    """

    name: str
    rows: int
    width: int
    pooling_factors: tuple[float, ...] = (1.0,)
    pooling: Pooling = "mean"

    def __post_init__(self) -> None:
        if self.rows < 1:
            raise ValueError(f"table {self.name!r}: rows is {self.rows}, must be positive")
        if self.width < 1 or self.width % WIDTH_UNIT:
            raise ValueError(
                f"table {self.name!r}: width is {self.width}, must be a positive multiple of "
                f"{WIDTH_UNIT}"
            )
        if not self.pooling_factors:
            raise ValueError(f"table {self.name!r} has no pooling factor: nothing reads it")
        for factor in self.pooling_factors:
            if factor <= 0:
                raise ValueError(
                    f"table {self.name!r}: pooling factor is {factor}, must be positive"
                )


def tables_of(schema: Schema) -> list[LookupTable]:
    """The tables of a schema, with the pooling factors of the fields that read them."""
    return [
        LookupTable(
            name=table.name,
            rows=table.rows,
            width=table.width,
            pooling_factors=tuple(
                max(field.pooling_factor, LEAST_POOLING_FACTOR)
                for field in schema.fields
                if field.table == table.name
            ),
            pooling=table.pooling,
        )
        for table in schema.tables
    ]


def chosen_tables(tables: Sequence[LookupTable], most: int, max_rows: int) -> list[LookupTable]:
    """At most ``most`` of the tables, in their order, to stand for all.

    Of more, only those are taken that differ in what is measured, and not just in their names or in
    rows that are cut. Where they still are more, one half are those that read most for a row of a
    batch, the other are spread evenly over the sizes of the rest.

    Args:
        tables: all of them.
        most: how many to choose.
        max_rows: above which a table is cut while it is measured.
    """
    if len(tables) <= most:
        return list(tables)
    first_of_each = {
        replace(table, name="", rows=min(table.rows, max_rows)): table for table in reversed(tables)
    }
    chosen = set(first_of_each.values())
    if len(chosen) > most:
        chosen = _busiest_and_spread(chosen, most)
    return [table for table in tables if table in chosen]


def _busiest_and_spread(tables: set[LookupTable], most: int) -> set[LookupTable]:
    def reads(table: LookupTable) -> tuple[float, str]:
        """Numbers that a row of a batch reads; the name, so that equal ones have an order."""
        return -sum(table.pooling_factors) * table.width, table.name

    ordered = sorted(tables, key=reads)
    spread = most // 2
    busiest, rest = ordered[: most - spread], ordered[most - spread :]
    rest.sort(key=lambda table: table.rows * table.width)
    places = (place * (len(rest) - 1) // max(spread - 1, 1) for place in range(spread))
    return {*busiest, *(rest[place] for place in places)}

"""The embedding tables whose lookups are measured and estimated."""

from __future__ import annotations

from dataclasses import dataclass

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

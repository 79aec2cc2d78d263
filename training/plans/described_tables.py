"""The tables of a model without its data, as a plan configuration describes them. Needs no torch.

```yaml
tables:
  - {name: city, rows: 40_000, width: 16, group: user}     # one field of that name, one id a row
  - {name: tags, rows: 100_000, width: 32, ids: 3}         # a mean of three ids a row
  - {name: song_stat, count: 40, rows: 1_002, width: 16}   # song_stat_00 ... song_stat_39
  - name: song_id                                          # fields that share a table
    rows: 150_000_000
    width: 64
    fields: {song_id: 1, recent_songs: 50}                 # each with its ids a row
    why: 120 million songs and room to grow
```
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from dropdrift.data.schema import (
    MAX_TABLE_ROWS,
    DataKind,
    Encoding,
    Field,
    FieldGroup,
    Pooling,
    Schema,
    Table,
)
from dropdrift.data.typed_mapping import build, shown

# Of tables that one entry describes: TorchRec takes a minute for 500.
MAX_COUNT = 10_000


@dataclass(frozen=True)
class DescribedTable:
    """One entry of ``tables``: a table, or several alike, and the fields that look it up.

    Attributes:
        name: of the table, and of its one field where ``fields`` is empty.
        rows: of the table, the one for out-of-vocabulary ids included.
        width: numbers of a row, a multiple of 4.
        ids: mean number of ids of a sample; below 1 where the feature is missing in some.
        fields: mean number of ids of a sample by field, where several fields share the table or
            its one field has another name.
        count: how many such tables there are; they and their fields are numbered from 0.
        group: the side that the fields describe.
        identifier: whether they identify one user, item or author.
        pooling: how the embeddings of one field's ids become one.
        why: where the size is from; for the reader.
    """

    name: str
    rows: int
    width: int
    ids: float = 1.0
    fields: dict[str, float] = field(default_factory=dict)
    count: int = 1
    group: FieldGroup = "context"
    identifier: bool = False
    pooling: Pooling = "mean"
    why: str = ""

    def __post_init__(self) -> None:
        if self.count < 1:
            raise self._error(f"count is {self.count}, must be positive")
        if self.count > MAX_COUNT:
            raise self._error(f"count is {self.count:,}, must be at most {MAX_COUNT:,}")
        if self.fields and self.ids != 1:
            raise self._error(
                f"ids is {self.ids:g} and fields says the ids of each field: leave ids out"
            )
        if self.fields and self.count > 1:
            raise self._error(
                f"count is {self.count}, but the fields {', '.join(map(str, self.fields))} cannot "
                "belong to several tables: describe these one by one"
            )
        for name, ids in self._ids_by_field(self.name).items():
            if not isinstance(name, str):
                raise self._error(f"fields names {name!r}, which is no text: put it in quotes")
            where = f"fields: {name}" if self.fields else "ids"
            if type(ids) not in (int, float) or not 0 < ids < math.inf:
                raise self._error(f"{where} is {ids!r}, must be a positive number")
        if self.rows > MAX_TABLE_ROWS:
            raise self._error(
                f"rows is {self.rows}, but ids are 32-bit, so a table has at most {MAX_TABLE_ROWS} "
                "rows: hash the ids into so many or describe several tables, and say so in 'why'"
            )
        self._table(self.name)

    def tables(self) -> tuple[Table, ...]:
        """The ``count`` tables."""
        return tuple(self._table(name) for name in self._names())

    def table_fields(self) -> tuple[Field, ...]:
        """The fields of all tables, in their order."""
        return tuple(
            self._field(name, ids, table)
            for table in self._names()
            for name, ids in self._ids_by_field(table).items()
        )

    def _names(self) -> list[str]:
        if self.count == 1:
            return [self.name]
        digits = len(str(self.count - 1))
        return [f"{self.name}_{number:0{digits}}" for number in range(self.count)]

    def _ids_by_field(self, table: str) -> dict[str, float]:
        return self.fields or {table: self.ids}

    def _table(self, name: str) -> Table:
        return Table(name, self.rows, self.width, Encoding("hash"), self.pooling)

    def _field(self, name: str, ids: float, table: str) -> Field:
        return Field(
            name,
            kind="multi" if ids > 1 else "categorical",
            table=table,
            group=self.group,
            identifier=self.identifier,
            max_length=math.ceil(ids),
            missing_rate=max(0.0, 1.0 - ids),
            pooling_factor=float(ids),
        )

    def _error(self, message: str) -> ValueError:
        return ValueError(f"table {self.name!r}: {message}")


def read_tables(raw: Any) -> tuple[DescribedTable, ...]:
    """The entries of ``tables`` as YAML gives them.

    Raises:
        ValueError: it is no list or an empty one, or an entry has an unknown or missing key, or a
            value that is refused; the line names the entry.
    """
    if not isinstance(raw, list) or not raw:
        shown = "empty" if raw in (None, [], {}) else f"of type {type(raw).__name__}"
        raise ValueError(f"tables is {shown}, must be a list of at least one table")
    return tuple(
        build(DescribedTable, entry, _owner(entry, number)) for number, entry in enumerate(raw, 1)
    )


def described_schema(
    name: str,
    tables: tuple[DescribedTable, ...],
    labels: tuple[str, ...],
    kind: DataKind = "impressions",
) -> Schema:
    """The schema of data that are described rather than prepared.

    Ids are hashed; interactions have times, impressions have a user where a table describes one.

    Args:
        name: of the data set.
        tables: the entries, in the order of the schema's fields.
        labels: of impressions; none of interactions.
        kind: see :class:`dropdrift.data.schema.Schema`.

    Raises:
        ValueError: two tables or fields have one name, or the schema refuses the labels.
    """
    built = tuple(table for entry in tables for table in entry.tables())
    for table, count in Counter(table.name for table in built).items():
        if count > 1:
            raise ValueError(f"table {table!r} is described {count} times")
    return Schema(
        name,
        fields=tuple(field for entry in tables for field in entry.table_fields()),
        tables=built,
        labels=labels,
        has_user=any(entry.group == "user" for entry in tables),
        has_time=kind == "interactions",
        kind=kind,
    )


def _owner(entry: Any, number: int) -> str:
    named = isinstance(entry, Mapping) and "name" in entry
    return f"table {shown(entry['name'])}" if named else f"entry {number} of tables"

"""Features of users or items that are looked up for each row of a log."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc


class SideTable:
    """One row for each key, held in memory.

    Text is kept once per distinct value, so that a lookup copies no text.

    Args:
        batches: the rows.
        key: the column that identifies a row.
        origin: the file to name in an error.

    Raises:
        ValueError: a key is there twice, or there are no rows.
    """

    def __init__(self, batches: Sequence[pa.RecordBatch], key: str, origin: Path) -> None:
        if not batches:
            raise ValueError(f"{origin} holds no rows")
        table = pa.Table.from_batches(batches).combine_chunks()
        keys = table.column(key).combine_chunks()
        counts = pc.value_counts(keys)
        repeated = counts.filter(pc.greater(counts.field("counts"), 1))
        if len(repeated):
            raise ValueError(f"{origin} has {key} {repeated[0]['values']} more than once")
        self._keys = keys
        self._features = {
            name: _compact(table.column(name).combine_chunks())
            for name in table.column_names
            if name != key
        }

    def lookup(self, keys: pa.Array) -> dict[str, pa.Array]:
        """The features of each of ``keys``; null for a key that the table does not hold."""
        rows = pc.index_in(keys, value_set=self._keys)
        return {name: values.take(rows) for name, values in self._features.items()}


def _compact(values: pa.Array) -> pa.Array:
    return values.dictionary_encode() if pa.types.is_string(values.type) else values

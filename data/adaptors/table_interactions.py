"""The ``table`` adaptor for interactions: any CSV, TSV or Parquet of a user."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from dropdrift.data.adaptors.duplicates import DuplicateFilter
from dropdrift.data.adaptors.interactions_description import (
    ItemsDescription,
    read_interactions_description,
)
from dropdrift.data.adaptors.row_filter import kept_rows
from dropdrift.data.adaptors.table_files import TableFiles, with_seconds
from dropdrift.data.interactions.source import InteractionSpec
from dropdrift.data.quarantine import BadRows


class TableInteractions:
    """The rows of one or more files, and a table of the items if there is one.

    Args:
        source: a file, a folder (its .csv, .tsv and .parquet files, compressed text included) or a
            pattern such as ``logs/day-*.csv``; files are read in the order of their names.
        description: the YAML file that says which column is what (``interactions_description``).

    Raises:
        ValueError: there is no such file, or the description is wrong.
    """

    def __init__(self, source: Path | str, description: Path) -> None:
        self._description = read_interactions_description(description)
        self._files = TableFiles(source, self._description.text)
        self._items: _ItemFiles | None = None
        if self._description.items is not None:
            self._items = _ItemFiles(self._description.items, self.spec, description)

    @property
    def spec(self) -> InteractionSpec:
        """What the columns mean."""
        return self._description.spec

    @property
    def total_rows(self) -> int | None:
        """The number of rows if all files are Parquet and all rows are taken."""
        description = self._description
        every = not description.kept and not description.drop_duplicates
        return self._files.total_rows if every else None

    def batches(self, bad_rows: BadRows) -> Iterator[pa.RecordBatch]:
        """All interactions, with the columns of user, item and time.

        Raises:
            ValueError: a file lacks a column or is damaged, or a row is bad in strict mode.
        """
        spec, kept = self.spec, self._description.kept
        own = [spec.user, spec.item, *([spec.time] if spec.time else [])]
        columns = list(dict.fromkeys([*own, *kept]))
        duplicates = DuplicateFilter() if self._description.drop_duplicates else None
        for path in self._files.paths:
            for batch in self._files.batches(path, columns, own[2:], bad_rows):
                rows = batch.filter(pa.array(kept_rows(batch, kept))) if kept else batch
                rows = rows.select(own)
                if duplicates is not None:
                    rows = rows.take(pa.array(duplicates.new_rows(rows)))
                yield with_seconds(rows, spec.time) if spec.time else rows

    def items(self, bad_rows: BadRows) -> Iterator[pa.RecordBatch] | None:
        """All items of their table; None where there is none.

        Raises:
            ValueError: a file lacks a column or is damaged, or a row is bad in strict mode.
        """
        return None if self._items is None else self._items.batches(bad_rows)


class _ItemFiles:
    """The table of the items, with the item's column under the name that the spec gives it."""

    def __init__(self, description: ItemsDescription, spec: InteractionSpec, origin: Path) -> None:
        self._item = description.item
        self._spec = spec
        self._files = TableFiles(description.source, description.text)
        for field in spec.fields:
            without = field.kind in ("multi", "sequence") and not field.separator
            if without and not self._files.all_parquet:
                raise ValueError(
                    f"{origin}: field {field.name!r} is {field.kind}: delimited text needs "
                    "its 'separator'"
                )

    def batches(self, bad_rows: BadRows) -> Iterator[pa.RecordBatch]:
        """The rows of the table of items, as ``InteractionSource.items`` gives them."""
        spec = self._spec
        names = [*([spec.title] if spec.title else []), *(field.name for field in spec.fields)]
        numeric = [f.name for f in spec.fields if f.kind == "numeric" and not f.missing_codes]
        columns = list(dict.fromkeys([self._item, *names]))
        for path in self._files.paths:
            for batch in self._files.batches(path, columns, numeric, bad_rows):
                wanted = {spec.item: batch.column(self._item)}
                wanted |= {name: batch.column(name) for name in names}
                yield pa.RecordBatch.from_pydict(wanted)

"""The Parquet files of one part of a prepared data set, read one row group at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from dropdrift.data.columns import check_columns, columns_read, label_column
from dropdrift.data.loading.block import ColumnBlock
from dropdrift.data.parquet_file import reading_parquet
from dropdrift.data.schema import Schema

_ADVICE = "; run 'dropdrift prepare' again"


@dataclass(frozen=True, eq=False)
class RowGroup:
    """One row group of one file."""

    path: Path
    metadata: pq.FileMetaData
    index: int
    rows: int


class Part:
    """One part of a prepared data set. Opening it reads the files' metadata alone.

    Args:
        directory: the prepared data set.
        name: ``train``, ``validation`` or ``test``.
        schema: its schema.

    Attributes:
        path: the part's folder.
        row_groups: all row groups that hold rows, in the order of the data.

    Raises:
        ValueError: the part is not there or empty, a file is cut short or no Parquet, or a column
            is absent or of another type.
    """

    def __init__(self, directory: Path, name: str, schema: Schema) -> None:
        self.path = directory / name
        self._schema = schema
        if not self.path.is_dir():
            raise ValueError(
                f"{self.path} does not exist: is {directory} made by 'dropdrift prepare'?"
            )
        files = sorted(self.path.glob("*.parquet"))
        self.row_groups = [group for path in files for group in self._open(path)]
        if not self.row_groups:
            raise ValueError(
                f"{self.path} holds no rows: prepare the data with another split or more rows"
            )

    @property
    def rows(self) -> int:
        """Number of rows of the part."""
        return sum(group.rows for group in self.row_groups)

    def read(self, group: RowGroup) -> ColumnBlock:
        """The rows of one row group.

        Raises:
            ValueError: the file is damaged, an id is not a row of its table, or a label is neither
                0 nor 1.
        """
        table = self._columns_of(group, columns_read(self._schema))
        return ColumnBlock.from_table(table, self._schema, group.path)

    def check_label(self, label: str) -> None:
        """Make sure that there are rows of both classes; reads no more row groups than it takes.

        Raises:
            ValueError: all known values of ``label`` are alike, or none is known.
        """
        seen: set[int] = set()
        for group in self.row_groups:
            column = self._columns_of(group, [label_column(label)]).column(0)
            seen |= set(column.drop_null().unique().to_pylist())
            if seen >= {0, 1}:
                return
        found = f"is {min(seen)} in all rows where it is known" if seen else "is known in no row"
        raise ValueError(
            f"{self.path}: label {label!r} {found}, but rows of both classes are needed: prepare "
            "the data with another split, or choose another label"
        )

    def _columns_of(self, group: RowGroup, columns: list[str]) -> pa.Table:
        with (
            reading_parquet(group.path, _ADVICE),
            pq.ParquetFile(
                group.path, metadata=group.metadata, page_checksum_verification=True
            ) as file,
        ):
            return file.read_row_group(group.index, columns=columns)

    def _open(self, path: Path) -> Iterator[RowGroup]:
        with reading_parquet(path, _ADVICE), pq.ParquetFile(path) as file:
            metadata, columns = file.metadata, file.schema_arrow
        check_columns(columns, self._schema, path)
        for index in range(metadata.num_row_groups):
            rows = metadata.row_group(index).num_rows
            if rows:
                yield RowGroup(path, metadata, index, rows)


class RowSequence:
    """The rows of a part with its row groups in a given order.

    Holds the last row group it read, since the next stretch of rows often begins in it.

    Args:
        part: where the rows are.
        order: a permutation of the part's row groups.
    """

    def __init__(self, part: Part, order: Sequence[int] | NDArray[np.int64]) -> None:
        self._part = part
        self._groups = [part.row_groups[index] for index in order]
        self._ends = np.cumsum([group.rows for group in self._groups])
        self._last: tuple[int, ColumnBlock] | None = None

    def read(self, start: int, stop: int) -> list[ColumnBlock]:
        """Rows ``start`` to ``stop``, piece by piece, from the row groups that they lie in."""
        first, last = np.searchsorted(self._ends, [start, stop - 1], side="right")
        pieces = []
        for position in range(first, last + 1):
            begin = int(self._ends[position]) - self._groups[position].rows
            block = self._row_group(position)
            pieces.append(block.slice(max(start - begin, 0), stop - begin))
        return pieces

    def _row_group(self, position: int) -> ColumnBlock:
        if self._last is None or self._last[0] != position:
            self._last = position, self._part.read(self._groups[position])
        return self._last[1]

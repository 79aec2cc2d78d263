"""Writes the Parquet files of one part of a prepared data set."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

import pyarrow as pa
import pyarrow.parquet as pq

ROW_GROUP_ROWS = 65_536
FILE_ROWS = 1_000_000


class PartWriter:
    """Cuts a stream of tables into row groups of 65,536 rows and files of a million.

    Every page has a checksum: most flipped bits are other ids to a reader without.

    Args:
        directory: the part's folder, which is made.
    """

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True)
        self._directory = directory
        self._waiting: list[pa.Table] = []
        self._waiting_rows = 0
        self._files = 0
        self._file_rows = 0
        self._writer: pq.ParquetWriter | None = None

    def __enter__(self) -> PartWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            self._write(self._row_groups(whole_ones=False))
        self._close_file()

    def add(self, table: pa.Table) -> None:
        """Write ``table``'s rows after those before."""
        self._waiting.append(table)
        self._waiting_rows += table.num_rows
        if self._waiting_rows >= ROW_GROUP_ROWS:
            self._write(self._row_groups(whole_ones=True))

    def _row_groups(self, whole_ones: bool) -> Iterator[pa.Table]:
        rows = pa.concat_tables(self._waiting) if self._waiting else None
        self._waiting, self._waiting_rows = [], 0
        while rows is not None and rows.num_rows:
            size = min(ROW_GROUP_ROWS, FILE_ROWS - self._file_rows % FILE_ROWS)
            if whole_ones and rows.num_rows < size:
                self._waiting, self._waiting_rows = [rows], rows.num_rows
                return
            yield rows.slice(0, size)
            rows = rows.slice(size)

    def _write(self, row_groups: Iterator[pa.Table]) -> None:
        for rows in row_groups:
            if self._writer is None:
                path = self._directory / f"part-{self._files:05d}.parquet"
                self._writer = pq.ParquetWriter(
                    path, rows.schema, compression="zstd", write_page_checksum=True
                )
                self._files += 1
            self._writer.write_table(rows.combine_chunks(), row_group_size=ROW_GROUP_ROWS)
            self._file_rows += rows.num_rows
            if self._file_rows == FILE_ROWS:
                self._close_file()

    def _close_file(self) -> None:
        if self._writer is not None:
            self._writer.close()
        self._writer = None
        self._file_rows = 0

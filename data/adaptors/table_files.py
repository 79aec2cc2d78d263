"""The files of a user's table, delimited text or Parquet, as a stream of columns."""

from __future__ import annotations

import glob
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from dropdrift.data.adaptors.delimited import read_delimited
from dropdrift.data.adaptors.table_description import TextFormat
from dropdrift.data.quarantine import BadRows

PARQUET_SUFFIXES = (".parquet", ".pq")
TEXT_SUFFIXES = (".csv", ".tsv")
_COMPRESSIONS = (".gz", ".bz2", ".zst")
_BATCH_ROWS = 65_536


class TableFiles:
    """One or more files with the same columns.

    Args:
        source: a file, a folder (its .csv, .tsv and .parquet files, compressed text included) or a
            pattern such as ``logs/day-*.csv``; files are read in the order of their names.
        text: the format of those that are delimited text.

    Attributes:
        paths: the files, in order.
        all_parquet: whether none is delimited text.

    Raises:
        ValueError: there is no such file.
    """

    def __init__(self, source: Path | str, text: TextFormat) -> None:
        self.paths = _files(source)
        self.all_parquet = all(_is_parquet(path) for path in self.paths)
        self._text = text

    @property
    def total_rows(self) -> int | None:
        """The number of rows if all files are Parquet, which says so itself."""
        if not self.all_parquet:
            return None
        return sum(_open_parquet(path).metadata.num_rows for path in self.paths)

    def batches(
        self, path: Path, columns: Sequence[str], numeric: Collection[str], bad_rows: BadRows
    ) -> Iterator[pa.RecordBatch]:
        """The rows of ``path``, one of the files.

        Args:
            path: the file.
            columns: the columns wanted.
            numeric: columns of delimited text that are read as numbers.
            bad_rows: takes the rows that cannot be read.

        Raises:
            ValueError: the file lacks a column or is damaged, or a row is bad in strict mode.
        """
        if _is_parquet(path):
            return _parquet_batches(path, columns)
        suffixes = [suffix for suffix in path.suffixes if suffix not in _COMPRESSIONS]
        return read_delimited(
            path,
            columns=self._text.columns or None,
            delimiter=self._text.delimiter or ("\t" if suffixes[-1:] == [".tsv"] else ","),
            numeric=numeric,
            bad_rows=bad_rows,
            select=columns,
            encoding=self._text.encoding,
            quote=self._text.quote,
        )


def with_seconds(batch: pa.RecordBatch, time: str) -> pa.RecordBatch:
    """``batch`` with seconds since 1970 in the column ``time`` if it holds timestamps or dates."""
    column = batch.column(time)
    if not (pa.types.is_timestamp(column.type) or pa.types.is_date(column.type)):
        return batch
    microseconds = column.cast(pa.timestamp("us"), safe=False).cast(pa.int64())
    seconds = microseconds.to_numpy(zero_copy_only=False) / 1e6
    return replaced(batch, time, pa.array(seconds, from_pandas=True))


def replaced(batch: pa.RecordBatch, name: str, column: pa.Array) -> pa.RecordBatch:
    """``batch`` with ``column`` under ``name``, in the place of one of that name or at the end."""
    columns = dict(zip(batch.schema.names, batch.columns, strict=True))
    return pa.RecordBatch.from_pydict({**columns, name: column})


def _files(source: Path | str) -> list[Path]:
    path = Path(source)
    if path.is_file():
        return [path]
    if path.is_dir():
        found = sorted(child for child in path.iterdir() if _is_table(child))
        wanted = ", ".join((*TEXT_SUFFIXES, *PARQUET_SUFFIXES))
        missing = f"{source} holds no file that ends in {wanted}"
    else:
        names = glob.glob(str(source))  # noqa: PTH207  # Path.glob takes no absolute pattern
        found = sorted(Path(name) for name in names if Path(name).is_file())
        missing = f"{source} does not exist"
    if not found:
        raise ValueError(missing)
    return found


def _is_table(path: Path) -> bool:
    name = path.name.lower()
    for compression in _COMPRESSIONS:
        name = name.removesuffix(compression)
    hidden = name.startswith((".", "_"))
    return path.is_file() and not hidden and name.endswith((*TEXT_SUFFIXES, *PARQUET_SUFFIXES))


def _is_parquet(path: Path) -> bool:
    return path.suffix.lower() in PARQUET_SUFFIXES


def _open_parquet(path: Path) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(path)
    except (pa.ArrowException, OSError) as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> ValueError:
    return ValueError(f"{path} is cut short or no Parquet file: {' '.join(str(error).split())}")


def _parquet_batches(path: Path, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    with _open_parquet(path) as file:
        names = file.schema_arrow.names
        for column in columns:
            if column not in names:
                raise ValueError(f"{path} has no column {column!r}; it has {', '.join(names)}")
        try:
            for batch in file.iter_batches(batch_size=_BATCH_ROWS, columns=list(columns)):
                yield _without_views(batch)
        except (pa.ArrowException, OSError) as error:
            raise _damaged(path, error) from error


def _without_views(batch: pa.RecordBatch) -> pa.RecordBatch:
    """``batch`` with plain text in place of views on text, which Arrow cannot filter yet."""
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        if str(column.type) == "string_view":
            batch = replaced(batch, name, column.cast(pa.large_string()))
    return batch

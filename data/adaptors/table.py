"""The ``table`` adaptor: any CSV, TSV or Parquet of a user."""

from __future__ import annotations

import glob
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from dropdrift.data.adaptors.delimited import read_delimited
from dropdrift.data.adaptors.table_description import LabelRule, TableDescription, read_description
from dropdrift.data.encoding.values import as_numbers
from dropdrift.data.quarantine import BadRows
from dropdrift.data.source import DatasetSpec

PARQUET_SUFFIXES = (".parquet", ".pq")
TEXT_SUFFIXES = (".csv", ".tsv")
_COMPRESSIONS = (".gz", ".bz2", ".zst")
_BATCH_ROWS = 65_536


class TableSource:
    """The rows of one or more files with the same columns, one file after the other.

    Args:
        source: a file, a folder (its .csv, .tsv and .parquet files, compressed text included) or a
            pattern such as ``logs/day-*.csv``; files are read in the order of their names.
        description: the YAML file that says which column is what (``table_description``).

    Raises:
        ValueError: there is no such file, or the description is wrong.
    """

    def __init__(self, source: Path | str, description: Path) -> None:
        self._description: TableDescription = read_description(description)
        self._files = _files(source)
        if not all(_is_parquet(path) for path in self._files):
            self._check_separators(description)

    @property
    def spec(self) -> DatasetSpec:
        """What the columns mean."""
        return self._description.spec

    @property
    def total_rows(self) -> int | None:
        """The number of rows if all files are Parquet, which says so itself."""
        if not all(_is_parquet(path) for path in self._files):
            return None
        return sum(_open_parquet(path).metadata.num_rows for path in self._files)

    def batches(self, bad_rows: BadRows) -> Iterator[pa.RecordBatch]:
        """All rows, with the columns of fields, labels, user and time.

        Raises:
            ValueError: a file lacks a column or is damaged, or a row is bad in strict mode.
        """
        for path in self._files:
            read = _parquet_batches(path, self._columns()) if _is_parquet(path) else None
            row = 1
            for batch in read or self._text_batches(path, bad_rows):
                yield _labelled(
                    _timed(batch, self.spec.time), self._description.rules, path, row, bad_rows
                )
                row += batch.num_rows

    def _columns(self) -> list[str]:
        """The columns to read, each once."""
        spec = self.spec
        rules = self._description.rules.values()
        names = [field.name for field in spec.fields] + [rule.column for rule in rules]
        return list(dict.fromkeys([*names, *filter(None, (spec.user, spec.time))]))

    def _numeric(self) -> list[str]:
        """The columns that hold numbers, but those that mark missing values with a word."""
        spec = self.spec
        fields = [f.name for f in spec.fields if f.kind == "numeric" and not f.missing_codes]
        rules = self._description.rules.values()
        return [*fields, *(rule.column for rule in rules), *([spec.time] if spec.time else [])]

    def _text_batches(self, path: Path, bad_rows: BadRows) -> Iterator[pa.RecordBatch]:
        text = self._description.text
        suffixes = [suffix for suffix in path.suffixes if suffix not in _COMPRESSIONS]
        return read_delimited(
            path,
            columns=text.columns or None,
            delimiter=text.delimiter or ("\t" if suffixes[-1:] == [".tsv"] else ","),
            numeric=self._numeric(),
            bad_rows=bad_rows,
            select=self._columns(),
            encoding=text.encoding,
            quote=text.quote,
        )

    def _check_separators(self, description: Path) -> None:
        for field in self.spec.fields:
            if field.kind in ("multi", "sequence") and not field.separator:
                raise ValueError(
                    f"{description}: field {field.name!r} is {field.kind}: delimited text needs "
                    "its 'separator'"
                )


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
            batch = _replaced(batch, name, column.cast(pa.large_string()))
    return batch


def _timed(batch: pa.RecordBatch, time: str) -> pa.RecordBatch:
    """``batch`` with a timestamp or date in seconds since 1970."""
    if not time:
        return batch
    column = batch.column(time)
    if not (pa.types.is_timestamp(column.type) or pa.types.is_date(column.type)):
        return batch
    microseconds = column.cast(pa.timestamp("us"), safe=False).cast(pa.int64())
    seconds = microseconds.to_numpy(zero_copy_only=False) / 1e6
    return _replaced(batch, time, pa.array(seconds, from_pandas=True))


def _labelled(
    batch: pa.RecordBatch,
    rules: Mapping[str, LabelRule],
    path: Path,
    first_row: int,
    bad_rows: BadRows,
) -> pa.RecordBatch:
    """``batch`` with the labels that are made of other columns."""
    good = np.ones(batch.num_rows, dtype=bool)
    labelled = batch
    for label, rule in rules.items():
        column = batch.column(rule.column)
        if rule.at_least is not None:
            numbers, wrong = as_numbers(column)
            for row in np.flatnonzero(wrong & good).tolist():
                reason = f"column {rule.column!r} holds no number"
                bad_rows.add(path, first_row + row, reason, str(column[row].as_py()))
            good &= ~wrong
            column = pa.array(numbers >= rule.at_least, mask=np.isnan(numbers))
        labelled = _replaced(labelled, label, column)
    return labelled if good.all() else labelled.filter(pa.array(good))


def _replaced(batch: pa.RecordBatch, name: str, column: pa.Array) -> pa.RecordBatch:
    columns = dict(zip(batch.schema.names, batch.columns, strict=True))
    return pa.RecordBatch.from_pydict({**columns, name: column})

"""Delimited text (CSV, TSV and the like) as a stream of record batches of bounded size."""

from __future__ import annotations

import csv
import io
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from dropdrift.data.encoding.values import as_numbers
from dropdrift.data.quarantine import BadRows

BLOCK_BYTES = 1 << 24
_REPLACEMENT = "\ufffd"
_END_OF_FILE = "\x1c"


def read_delimited(
    path: Path,
    *,
    columns: Sequence[str] | None = None,
    delimiter: str = ",",
    numeric: Collection[str] = (),
    bad_rows: BadRows,
    select: Collection[str] | None = None,
    encoding: str = "utf-8",
    quote: str = '"',
) -> Iterator[pa.RecordBatch]:
    """The rows of ``path``, some 16 MB of text at a time, compressed files (.gz, .zst) included.

    Columns are text, those in ``numeric`` float64; an empty value is null. A row with a wrong
    number of values, with bytes that are not in ``encoding`` or with text in a numeric column goes
    to ``bad_rows``, under its number in the file (from 1; header and blank lines are not counted).

    Args:
        path: the file.
        columns: names of the columns in order; None: the first line is a header that names them.
        delimiter: the one character between two values.
        numeric: columns that hold numbers.
        bad_rows: takes the rows that cannot be read.
        select: columns wanted; None: all.
        encoding: of the file.
        quote: the character around a value that holds the delimiter; empty: none.

    Raises:
        ValueError: the file is missing or is damaged, a column named here is not in it, or a row is
            bad in strict mode.
    """
    if delimiter == quote:
        raise ValueError(f"{path}: delimiter and quote are both {quote!r}")
    with _open_text(path, encoding) as text:
        names = list(columns) if columns is not None else _header(path, text, delimiter, quote)
        wanted = [name for name in names if select is None or name in select]
        _check_columns(path, names, {*numeric, *(select or ())})
        rows = _Rows(path, len(names), delimiter, bad_rows)
        try:
            yield from (
                _checked(batch, rows, numeric)
                for batch in _raw_batches(text, names, wanted, delimiter, quote, rows)
            )
        except (pa.ArrowException, OSError, EOFError, UnicodeError) as error:
            raise _unreadable(path, error) from error


def header_of(
    path: Path, *, delimiter: str = ",", encoding: str = "utf-8", quote: str = '"'
) -> list[str]:
    """The column names in the first line of ``path``; ValueError where there are none."""
    with _open_text(path, encoding) as text:
        return _header(path, text, delimiter, quote)


def _open_text(path: Path, encoding: str) -> io.TextIOWrapper:
    if not path.is_file():
        raise ValueError(f"{path} does not exist or is no file")
    # A byte order mark is no part of the first column's name.
    encoding = "utf-8-sig" if encoding.lower() in ("utf-8", "utf8") else encoding
    try:
        raw = pa.input_stream(str(path))
        return io.TextIOWrapper(raw, encoding=encoding, errors="replace", newline="")
    except (LookupError, ValueError) as error:
        raise ValueError(f"{path}: unknown encoding {encoding!r}") from error


def _unreadable(path: Path, error: Exception) -> ValueError:
    return ValueError(f"{path} cannot be read: {' '.join(str(error).split())}")


def _header(path: Path, text: io.TextIOWrapper, delimiter: str, quote: str) -> list[str]:
    try:
        line = text.readline()
    except (OSError, EOFError, UnicodeError) as error:
        raise _unreadable(path, error) from error
    if not line.strip():
        raise ValueError(f"{path} has no header: its first line is empty")
    if not quote:
        return line.rstrip("\r\n").split(delimiter)
    return next(csv.reader([line], delimiter=delimiter, quotechar=quote))


def _check_columns(path: Path, names: Sequence[str], needed: Collection[str]) -> None:
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"{path} has the column {name!r} more than once")
    for name in sorted(needed):
        if name not in names:
            raise ValueError(f"{path} has no column {name!r}; it has {', '.join(names)}")


class _Utf8Stream(io.RawIOBase):
    """The bytes of a text stream in UTF-8, which is all that Arrow parses, and a last row.

    That row is one value too wide, so the parser hands it over as a row to skip, unless an open
    quote before it swallows it.
    """

    def __init__(self, text: io.TextIOWrapper, last_row: str) -> None:
        self._text = text
        self._last_row = last_row

    def readable(self) -> bool:
        """Always true: pyarrow asks."""
        return True

    def read(self, size: int = -1) -> bytes:
        """The next text in UTF-8: up to ``size`` bytes, or the row put after the end."""
        # A character takes at most four bytes.
        chunk = self._text.read(max(1, size // 4)).encode()
        if not chunk and self._last_row:
            chunk, self._last_row = f"\n{self._last_row}\n".encode(), ""
        return chunk


class _Rows:
    """Keeps the numbers of the rows, of which the parser skips those of a wrong width."""

    def __init__(self, path: Path, width: int, delimiter: str, bad_rows: BadRows) -> None:
        self.path = path
        self.last_row = _END_OF_FILE + delimiter * width
        self._reason = f"has a number of values other than {width}"
        self._bad_rows = bad_rows
        self._next = 1
        self._skipped: list[int] = []
        self._complete = False
        self._error: ValueError | None = None

    def skip(self, row: pa.csv.InvalidRow) -> str:
        """The parser's callback: it takes "skip" or "error" and loses exceptions."""
        if row.text == self.last_row:
            self._complete = True
            return "skip"
        self._skipped.append(row.number)
        try:
            self.add_bad(row.number, self._reason, row.text)
        except ValueError as error:
            self._error = error
            return "error"
        return "skip"

    def raise_pending(self) -> None:
        """Raise what the callback could not."""
        if self._error is not None:
            raise self._error

    def check_complete(self) -> None:
        """Raise if the end of the file is inside a quoted value."""
        if not self._complete:
            raise ValueError(f"{self.path}: a quote is never closed (see 'quote' in its format)")

    def take(self, count: int) -> npt.NDArray[np.int64]:
        """The numbers of the next ``count`` rows that were not skipped."""
        candidates = np.arange(self._next, self._next + count + len(self._skipped))
        numbers = np.setdiff1d(candidates, self._skipped, assume_unique=True)[:count]
        if count:
            self._next = int(numbers[-1]) + 1
            self._skipped = [number for number in self._skipped if number >= self._next]
        return numbers

    def add_bad(self, number: int, reason: str, value: str) -> None:
        """Hand row ``number`` of this file to the source's bad rows."""
        self._bad_rows.add(self.path, number, reason, value)


def _raw_batches(
    text: io.TextIOWrapper,
    names: Sequence[str],
    wanted: Sequence[str],
    delimiter: str,
    quote: str,
    rows: _Rows,
) -> Iterator[pa.RecordBatch]:
    # Parallel reading would not know the number of a row.
    reading = pa.csv.ReadOptions(use_threads=False, column_names=names, block_size=BLOCK_BYTES)
    parsing = pa.csv.ParseOptions(
        delimiter=delimiter,
        quote_char=quote or False,
        newlines_in_values=bool(quote),
        invalid_row_handler=rows.skip,
    )
    converting = pa.csv.ConvertOptions(
        column_types=dict.fromkeys(names, pa.string()),
        include_columns=wanted,
        null_values=[""],
        strings_can_be_null=True,
        # The replacement of wrong bytes is valid already.
        check_utf8=False,
    )
    stream = pa.PythonFile(_Utf8Stream(text, rows.last_row), mode="r")
    try:
        yield from pa.csv.open_csv(stream, reading, parsing, converting)
    except pa.ArrowInvalid as error:
        rows.raise_pending()
        if "Empty CSV file" not in str(error):
            raise
    else:
        rows.check_complete()


def _checked(batch: pa.RecordBatch, rows: _Rows, numeric: Collection[str]) -> pa.RecordBatch:
    """``batch`` with numbers in the numeric columns and without its bad rows."""
    row_numbers = rows.take(batch.num_rows)
    good = np.ones(batch.num_rows, dtype=bool)
    columns: list[pa.Array] = []
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        if name in numeric:
            numbers, wrong = as_numbers(column)
            reason = f"column {name!r} holds no number"
            columns.append(pa.array(numbers, from_pandas=True))
        else:
            wrong = _undecodable(column)
            reason = f"column {name!r} holds bytes that are not in the file's encoding"
            columns.append(column)
        for row in np.flatnonzero(wrong & good):
            rows.add_bad(int(row_numbers[row]), reason, column[int(row)].as_py())
        good &= ~wrong
    result = pa.RecordBatch.from_arrays(columns, names=batch.schema.names)
    return result if good.all() else result.filter(pa.array(good))


def _undecodable(column: pa.StringArray) -> npt.NDArray[np.bool_]:
    found = pc.fill_null(pc.match_substring(column, _REPLACEMENT), False)
    return found.to_numpy(zero_copy_only=False)

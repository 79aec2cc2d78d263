"""Requests for recommendations, read from a CSV, TSV or Parquet file.

Shapes: R requests, V items of all their histories, U distinct raw ids.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from dropdrift.data.adaptors.delimited import header_of, read_delimited
from dropdrift.data.encoding.values import Texts, as_numbers, as_texts
from dropdrift.data.parquet_file import reading_parquet
from dropdrift.data.quarantine import BadRows
from dropdrift.training.retrieval.config import REQUEST_SUFFIXES, RetrieveConfig

READ_ROWS = 65_536


@dataclass(frozen=True)
class RawHistories:
    """What clients say that users did, oldest first.

    Attributes:
        offsets: int64 [R + 1], where each request's items begin, and the end.
        items: raw ids [U], and for each entry the position of its own [V]; -1 where it has none.
        times: int64 [V], when; None where no request says so, 0 where this one does not.
        timed: bool [R], whether the request says so.
    """

    offsets: NDArray[np.int64]
    items: Texts
    times: NDArray[np.int64] | None
    timed: NDArray[np.bool_]


@dataclass(frozen=True)
class Requests:
    """Some requests of a file, in its order.

    Attributes:
        first: number of the first one, from 0.
        users: raw ids [R], null where there is none.
        histories: what they did; None where the file leaves that to the prepared data.
    """

    first: int
    users: pa.StringArray
    histories: RawHistories | None

    def __len__(self) -> int:
        return len(self.users)


class RequestFile:
    """The requests of ``options.source``.

    Attributes:
        has_histories: whether the file has the column of items.

    Raises:
        ValueError: the file is not there, is no table, or has no column of users.
    """

    def __init__(self, options: RetrieveConfig) -> None:
        self._options, self._path = options, options.source
        if not self._path.is_file():
            raise ValueError(f"{self._path} does not exist or is no file")
        if self._path.suffix.lower() not in REQUEST_SUFFIXES:
            raise ValueError(f"{self._path} does not end in {', '.join(REQUEST_SUFFIXES)}")
        names = self._names()
        if options.user_column not in names:
            raise ValueError(
                f"{self._path} has no column {options.user_column!r}; it has {', '.join(names)}: "
                "name the one with the users by --user-column"
            )
        self.has_histories = options.items_column in names
        self._check_intended(names)
        wanted = (options.user_column, options.items_column, options.times_column)
        self._columns = [name for name in wanted if name in names]

    def batches(self) -> Iterator[Requests]:
        """All requests, some tens of thousands at a time.

        Raises:
            ValueError: a row cannot be read; the line names it.
        """
        first = 0
        for table in self._tables():
            yield self._requests(table, first)
            first += table.num_rows

    @property
    def _is_parquet(self) -> bool:
        return self._path.suffix.lower() in (".parquet", ".pq")

    @property
    def _delimiter(self) -> str:
        return "\t" if self._path.suffix.lower() == ".tsv" else ","

    def _names(self) -> list[str]:
        if not self._is_parquet:
            return header_of(self._path, delimiter=self._delimiter)
        with reading_parquet(self._path):
            names: list[str] = pq.read_schema(self._path).names
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"{self._path} has the column {name!r} more than once")
        return names

    def _check_intended(self, names: list[str]) -> None:
        """Refuse a named column that is not there, and times of no items."""
        options, default = self._options, RetrieveConfig
        for flag in ("items_column", "times_column"):
            name = getattr(options, flag)
            if name != getattr(default, flag) and name not in names:
                raise ValueError(
                    f"{self._path} has no column {name!r}, as --{flag.replace('_', '-')} says; it "
                    f"has {', '.join(names)}"
                )
        if options.times_column in names and not self.has_histories:
            raise ValueError(
                f"{self._path} has a column {options.times_column!r} but none of items, "
                f"{options.items_column!r}: name it by --items-column"
            )

    def _tables(self) -> Iterator[pa.RecordBatch]:
        if not self._is_parquet:
            yield from read_delimited(
                self._path,
                delimiter=self._delimiter,
                bad_rows=_Refused(),
                select=self._columns,
            )
            return
        with reading_parquet(self._path), pq.ParquetFile(self._path) as file:
            yield from file.iter_batches(READ_ROWS, columns=self._columns)

    def _requests(self, table: pa.RecordBatch, first: int) -> Requests:
        options = self._options
        users = self._texts(table.column(options.user_column), options.user_column)
        # One more entry than there are values, so that code -1 (missing) finds null.
        raw = pa.concat_arrays([users.values, pa.nulls(1, pa.string())])
        histories = self._histories(table, first) if self.has_histories else None
        return Requests(first, raw.take(pa.array(users.codes % len(raw))), histories)

    def _histories(self, table: pa.RecordBatch, first: int) -> RawHistories:
        options = self._options
        offsets, flat = self._lists(table.column(options.items_column))
        items = self._texts(flat, options.items_column)
        if options.times_column not in self._columns:
            return RawHistories(offsets, items, None, np.zeros(len(table), dtype=bool))
        times, timed = self._times(table.column(options.times_column), offsets, first)
        return RawHistories(offsets, items, times, timed)

    def _times(
        self, column: pa.Array, offsets: NDArray[np.int64], first: int
    ) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """When, for each item of each request [V], 0 where it has no times; which have some [R]."""
        name, items = self._options.times_column, np.diff(offsets)
        own, flat = self._lists(column)
        lengths = np.diff(own)
        wrong = np.flatnonzero((lengths != items) & (lengths > 0))
        if len(wrong):
            row = int(wrong[0])
            raise ValueError(
                f"{self._path}, row {first + row + 1}: {items[row]} items, but {lengths[row]} "
                f"values of {name!r}; there must be as many, or none"
            )
        try:
            numbers, _ = as_numbers(flat)
        except ValueError as error:
            raise ValueError(f"{self._path}: column {name!r} {error}") from error
        broken = np.flatnonzero(~(np.abs(numbers) < 2.0**62))  # NaN as well
        if len(broken):
            row = int(np.searchsorted(own, broken[0], side="right")) - 1
            value = flat[int(broken[0])].as_py()
            raise ValueError(
                f"{self._path}, row {first + row + 1}: {value!r} in column {name!r} is no time"
            )
        times = np.zeros(int(items.sum()), dtype=np.int64)
        timed: NDArray[np.bool_] = lengths > 0
        times[np.repeat(timed, items)] = numbers.astype(np.int64)
        return times, timed

    def _lists(self, column: pa.Array) -> tuple[NDArray[np.int64], pa.Array]:
        """Offsets [R + 1] and values [V] of a column of lists or of text."""
        kind = column.type
        if not any(test(kind) for test in _IS_LIST):
            column = self._split(column)
        lengths = pc.list_value_length(column).fill_null(0).to_numpy(zero_copy_only=False)
        return np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]), pc.list_flatten(column)

    def _split(self, column: pa.Array) -> pa.Array:
        """Text as lists of text; a number is a list of one."""
        texts = self._texts(column, "")
        separator = self._options.separator
        if separator.isspace():
            lists = pc.utf8_split_whitespace(texts.values)
        else:
            trimmed = pc.utf8_trim(texts.values, characters=separator)
            lists = pc.split_pattern(pc.if_else(pc.equal(trimmed, ""), None, trimmed), separator)
        codes = pa.array(texts.codes, mask=texts.codes < 0)
        return lists.take(codes)

    def _texts(self, column: pa.Array, name: str) -> Texts:
        try:
            return as_texts(column)
        except ValueError as error:
            raise ValueError(f"{self._path}: column {name!r} {error}") from error


class _Refused(BadRows):
    """Refuses bad rows: setting requests aside would lose them."""

    def add(self, file: Path | str, row: int, reason: str, value: str = "") -> None:
        """ValueError naming file, row and reason."""
        detail = f" ({value[:80]!r})" if value else ""
        raise ValueError(f"{file}, row {row}: {reason}{detail}")


_IS_LIST = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)

"""Reads a source's interactions into columns of numbers, and its items into a table.

Shapes: N interactions, U users, I items.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from dropdrift.data.encoding.values import as_numbers, as_texts
from dropdrift.data.interactions.codes import CodeCollector
from dropdrift.data.interactions.source import InteractionSpec
from dropdrift.data.quarantine import BadRows

Times = NDArray[np.int64] | NDArray[np.float64]

# Times are stored as 64-bit integers.
_LATEST = 2.0**63


@dataclass(frozen=True, eq=False)
class Interactions:
    """All interactions in the order of the source: 16 bytes each.

    Attributes:
        user_ids: raw ids of the users in the order in which they appear [U], large_string.
        item_ids: raw ids of the items in ascending order of the text [I], large_string.
        users: code of each interaction's user, int32 [N].
        items: code of each interaction's item, int32 [N].
        times: of each interaction [N], int64, or float64 where some are broken or missing in a
            column of integers; None: there are no times.
    """

    user_ids: pa.Array
    item_ids: pa.Array
    users: NDArray[np.int32]
    items: NDArray[np.int32]
    times: Times | None

    def __len__(self) -> int:
        return len(self.users)


def read_interactions(
    batches: Iterable[pa.RecordBatch], spec: InteractionSpec, bad_rows: BadRows
) -> Interactions:
    """Collects all batches.

    A row without user, item or time, or with a time that is no number, goes to ``bad_rows`` under
    its number in the stream (from 1).

    Raises:
        ValueError: a column is absent or of a wrong type, a row is bad in strict mode, or no row
            is left.
    """
    origin = f"data set {spec.name!r}, interactions"
    users, items = CodeCollector(), CodeCollector()
    times: list[Times] = []
    first_row = 1
    for batch in batches:
        good, time = _Checker(batch, spec, origin, first_row, bad_rows).checked()
        kept = pa.array(good)
        users.add(batch.column(spec.user).filter(kept))
        items.add(batch.column(spec.item).filter(kept))
        if time is not None:
            times.append(time[good])
        first_row += batch.num_rows
    user_ids, user_codes = users.collected()
    item_ids, item_codes = items.collected()
    if not len(user_codes):
        aside = f"; rows set aside: {bad_rows.count:,}" if bad_rows.count else ""
        raise ValueError(f"data set {spec.name!r} has no interaction{aside}")
    item_ids, item_codes = _sorted(item_ids, item_codes)
    time = np.concatenate(times) if spec.time else None
    return Interactions(user_ids, item_ids, user_codes, item_codes, time)


def read_items(table: pa.Table, spec: InteractionSpec, bad_rows: BadRows) -> pa.Table:
    """The side table ``table`` with its keys as text, and without bad rows.

    A row without an item, or with text where a field is numeric, goes to ``bad_rows``.

    Returns:
        The item's column as large_string, each value once; the title's as string; the fields'
        as they are.

    Raises:
        ValueError: a column is absent or of a wrong type, an item is there twice, or a row is bad
            in strict mode.
    """
    origin = f"data set {spec.name!r}, items"
    table = table.combine_chunks()
    good = np.ones(table.num_rows, dtype=bool)
    keys = as_texts(_column(table, spec.item, origin))
    _set_aside(keys.codes < 0, good, 1, f"column {spec.item!r}, the item, is missing", origin,
               None, bad_rows)  # fmt: skip
    for field in spec.fields:
        column = _column(table, field.name, origin)
        if field.kind == "numeric":
            with_numbers = _numbers(column, field.name, origin, field.missing_codes)
            reason = f"column {field.name!r} holds no number"
            _set_aside(with_numbers[1], good, 1, reason, origin, column, bad_rows)
    known = keys.codes[good]
    columns = {spec.item: keys.values.take(pa.array(known)).cast(pa.large_string())}
    _check_once(columns[spec.item], spec.item, origin)
    kept = table.filter(pa.array(good)).combine_chunks()
    if spec.title:
        columns[spec.title] = _titles(_column(kept, spec.title, origin))
    columns |= {field.name: _column(kept, field.name, origin) for field in spec.fields}
    return pa.table(columns)


class _Checker:
    """Checks one batch, whose first row has the number ``first_row``."""

    def __init__(
        self,
        batch: pa.RecordBatch,
        spec: InteractionSpec,
        origin: str,
        first_row: int,
        bad_rows: BadRows,
    ) -> None:
        self._batch = batch
        self._spec = spec
        self._origin = origin
        self._first_row = first_row
        self._bad_rows = bad_rows
        self._good = np.ones(batch.num_rows, dtype=bool)

    def checked(self) -> tuple[NDArray[np.bool_], Times | None]:
        """Which rows are good, and the time of each row."""
        for role, name in (("user", self._spec.user), ("item", self._spec.item)):
            column = _column(self._batch, name, self._origin)
            try:
                missing = as_texts(column).codes < 0
            except ValueError as error:
                raise ValueError(f"{self._origin}: column {name!r} {error}") from error
            self._set_aside(missing, f"column {name!r}, the {role}, is missing")
        return self._good, self._times() if self._spec.time else None

    def _times(self) -> Times:
        name = self._spec.time
        column = _column(self._batch, name, self._origin)
        if pa.types.is_integer(column.type) and not column.null_count:
            times: NDArray[np.int64] = column.cast(pa.int64()).to_numpy()
            return times
        numbers, wrong = _numbers(column, name, self._origin)
        self._set_aside(wrong, f"column {name!r} holds no number", column)
        self._set_aside(np.isnan(numbers), f"column {name!r}, the time, is missing")
        far = np.abs(np.nan_to_num(numbers)) >= _LATEST
        self._set_aside(far, f"column {name!r} holds a time beyond 64 bits", column)
        return numbers

    def _set_aside(
        self, bad: NDArray[np.bool_], reason: str, column: pa.Array | None = None
    ) -> None:
        _set_aside(bad, self._good, self._first_row, reason, self._origin, column, self._bad_rows)


def _set_aside(
    bad: NDArray[np.bool_],
    good: NDArray[np.bool_],
    first_row: int,
    reason: str,
    origin: str,
    column: pa.Array | None,
    bad_rows: BadRows,
) -> None:
    """Takes the ``bad`` rows out of ``good``, in place."""
    for row in np.flatnonzero(bad & good).tolist():
        value = "" if column is None else str(column[row].as_py())
        bad_rows.add(origin, first_row + row, reason, value)
    good &= ~bad


def _column(rows: pa.RecordBatch | pa.Table, name: str, origin: str) -> pa.Array:
    if name not in rows.schema.names:
        raise ValueError(f"{origin}: no column {name!r}; there are {', '.join(rows.schema.names)}")
    column = rows.column(name)
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column


def _numbers(
    column: pa.Array, name: str, origin: str, missing_codes: tuple[str, ...] = ()
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    try:
        return as_numbers(column, missing_codes)
    except ValueError as error:
        raise ValueError(f"{origin}: column {name!r} {error}") from error


def _sorted(ids: pa.Array, codes: NDArray[np.int32]) -> tuple[pa.Array, NDArray[np.int32]]:
    """The ids in ascending order, and the codes that they have then."""
    order = pc.sort_indices(ids).to_numpy()
    place = np.empty(len(order), dtype=np.int32)
    place[order] = np.arange(len(order), dtype=np.int32)
    return ids.take(pa.array(order)), place[codes]


def _check_once(keys: pa.Array, name: str, origin: str) -> None:
    counts = pc.value_counts(keys)
    repeated = counts.filter(pc.greater(counts.field("counts"), 1))
    if len(repeated):
        raise ValueError(f"{origin}: {name} {repeated[0]['values']} is there more than once")


def _titles(column: pa.Array) -> pa.Array:
    """Text as it is, without blanks around it; null where there is none."""
    try:
        texts = pc.utf8_trim_whitespace(column.cast(pa.string()))
    except (pa.ArrowNotImplementedError, pa.ArrowInvalid) as error:
        raise ValueError(f"the title has type {column.type}, which has no text form") from error
    return pc.if_else(pc.equal(texts, ""), None, texts)

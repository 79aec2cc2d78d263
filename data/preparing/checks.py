"""Holds a source against its own description, before and while its rows are read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dropdrift.data.encoding.values import as_numbers
from dropdrift.data.quarantine import BadRows
from dropdrift.data.schema import Encoding, Field, Schema, Table
from dropdrift.data.source import DatasetSpec, FieldSpec, FractionSplit, Source


def unfitted_schema(spec: DatasetSpec) -> Schema:
    """The schema of ``spec`` with empty vocabularies and without bucket edges.

    Raises:
        ValueError: the description contradicts itself.
    """
    owners: dict[str, FieldSpec] = {}
    for field in spec.fields:
        _check_field(field)
        owners.setdefault(field.table_name, field)
    schema = Schema(
        name=spec.name,
        fields=tuple(_field(field) for field in spec.fields),
        tables=tuple(_table(name, field) for name, field in owners.items()),
        labels=spec.labels,
        has_user=bool(spec.user),
        has_time=bool(spec.time),
        kind=spec.kind,
    )
    for field in spec.fields:
        _check_shared(owners[field.table_name], field)
    for label in spec.labels:
        if label in schema.field_names:
            raise ValueError(
                f"{label!r} is both a field and a label: a model would read its answer"
            )
    if {spec.user, spec.time} & set(spec.labels):
        raise ValueError("a label is also the column of the user or of the time")
    _check_split(spec)
    return schema


@contextmanager
def named(data_set: str) -> Iterator[None]:
    """Has an error about a column say whose column it is."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"data set {data_set!r}: {error}") from error


def checked_batches(source: Source, bad_rows: BadRows) -> Iterator[pa.RecordBatch]:
    """The source's rows with the columns that its description names, and no other.

    Numeric columns and time are float64, labels int8. Rows whose numbers do not parse or that have
    no time go to ``bad_rows``, under their number in the stream (from 1).

    Raises:
        ValueError: a column is missing or of the wrong type, a label is not 0, 1 or null, or what
            ``Source.batches`` raises.
    """
    spec = source.spec
    first_row = 1
    for batch in source.batches(bad_rows):
        checker = _BatchChecker(batch, spec, bad_rows, first_row)
        first_row += batch.num_rows
        yield checker.checked()


class _BatchChecker:
    """Checks one batch, whose first row has the number ``first_row``."""

    def __init__(
        self, batch: pa.RecordBatch, spec: DatasetSpec, bad_rows: BadRows, first_row: int
    ) -> None:
        self._batch = batch
        self._spec = spec
        self._bad_rows = bad_rows
        self._first_row = first_row
        self._good = np.ones(batch.num_rows, dtype=bool)

    def checked(self) -> pa.RecordBatch:
        """The batch's good rows, with the columns that the description names."""
        spec = self._spec
        columns: dict[str, pa.Array] = {}
        for field in spec.fields:
            if field.kind == "numeric":
                numbers = self._numbers(field.name, field.missing_codes)
                columns[field.name] = pa.array(numbers, from_pandas=True)
            else:
                columns[field.name] = self._column(field.name)
        for label in spec.labels:
            columns[label] = self._label(label)
        if spec.user:
            columns.setdefault(spec.user, self._column(spec.user))
        if spec.time:
            columns[spec.time] = self._time()
        if spec.oracle:
            columns[spec.oracle] = self._oracle()
        batch = pa.RecordBatch.from_pydict(columns)
        return batch if self._good.all() else batch.filter(pa.array(self._good))

    def _column(self, name: str) -> pa.Array:
        if name not in self._batch.schema.names:
            found = ", ".join(self._batch.schema.names)
            raise ValueError(f"data set {self._spec.name!r} has no column {name!r}; it has {found}")
        return self._batch.column(name)

    def _numbers(self, name: str, missing_codes: tuple[str, ...] = ()) -> NDArray[np.float64]:
        column = self._column(name)
        try:
            numbers, wrong = as_numbers(column, missing_codes)
        except ValueError as error:
            raise ValueError(f"data set {self._spec.name!r}: column {name!r} {error}") from error
        self._set_aside(wrong, f"column {name!r} holds no number", column)
        return numbers

    def _time(self) -> pa.Array:
        numbers = self._numbers(self._spec.time)
        self._set_aside(np.isnan(numbers), f"column {self._spec.time!r}, the time, is missing")
        return pa.array(numbers)

    def _oracle(self) -> pa.Array:
        numbers = self._numbers(self._spec.oracle)
        outside = ~((numbers >= 0) & (numbers <= 1))
        if outside.any():
            row = int(np.flatnonzero(outside)[0])
            raise ValueError(
                f"data set {self._spec.name!r}, row {self._first_row + row}: the true probability "
                f"{self._spec.oracle!r} is {numbers[row]:g}, must be between 0 and 1"
            )
        return pa.array(numbers)

    def _label(self, name: str) -> pa.Array:
        numbers = self._numbers(name)
        missing = np.isnan(numbers)
        other = ~missing & (numbers != 0) & (numbers != 1)
        if other.any():
            row = int(np.flatnonzero(other)[0])
            raise ValueError(
                f"data set {self._spec.name!r}, row {self._first_row + row}: label {name!r} is "
                f"{numbers[row]:g}, must be 0, 1 or missing"
            )
        return pa.array(np.where(missing, 0, numbers).astype(np.int8), mask=missing)

    def _set_aside(
        self, bad: NDArray[np.bool_], reason: str, column: pa.Array | None = None
    ) -> None:
        origin = f"data set {self._spec.name!r}"
        for row in np.flatnonzero(bad & self._good).tolist():
            value = "" if column is None else str(column[row].as_py())
            self._bad_rows.add(origin, self._first_row + row, reason, value)
        self._good &= ~bad


def _check_field(field: FieldSpec) -> None:
    if (field.kind == "numeric") != (field.encoding == "buckets"):
        raise ValueError(
            f"field {field.name!r} is {field.kind} and has encoding {field.encoding!r}: numeric "
            "fields, and no others, have encoding 'buckets'"
        )
    smallest = {"hash": 2, "buckets": 2, "vocabulary": 0}.get(field.encoding, 0)
    if field.size < smallest:
        raise ValueError(
            f"field {field.name!r}: size is {field.size}, must be at least {smallest} for encoding "
            f"{field.encoding!r}"
        )
    if field.min_count < 1:
        raise ValueError(f"field {field.name!r}: min_count is {field.min_count}, must be positive")
    # A vocabulary's file is named after its table.
    if field.table_name.startswith(".") or any(mark in field.table_name for mark in "/\\"):
        raise ValueError(
            f"field {field.name!r}: table name {field.table_name!r} is no file name; give the "
            "field another 'table'"
        )


def _check_shared(owner: FieldSpec, field: FieldSpec) -> None:
    for option in ("encoding", "size", "min_count", "width", "pooling"):
        values = getattr(owner, option), getattr(field, option)
        if values[0] != values[1]:
            raise ValueError(
                f"fields {owner.name!r} and {field.name!r} share table {field.table_name!r} but "
                f"differ in {option}: {values[0]!r} and {values[1]!r}"
            )


def _check_split(spec: DatasetSpec) -> None:
    split = spec.split
    if isinstance(split, FractionSplit):
        if not (split.validation > 0 and split.test > 0 and split.validation + split.test < 1):
            raise ValueError(
                f"split: validation {split.validation} and test {split.test} must be positive "
                "shares of the rows that leave some for training"
            )
    elif not spec.time:
        raise ValueError("split: validation_from and test_from need a time column")
    elif not split.validation_from < split.test_from:
        raise ValueError(
            f"split: validation_from {split.validation_from} is not before test_from "
            f"{split.test_from}"
        )


def _field(spec: FieldSpec) -> Field:
    return Field(
        name=spec.name,
        kind=spec.kind,
        table=spec.table_name,
        group=spec.group,
        identifier=spec.identifier,
        missing_codes=spec.missing_codes,
        separator=spec.separator,
        max_length=spec.max_length,
    )


def _table(name: str, spec: FieldSpec) -> Table:
    rows = spec.size if spec.encoding == "hash" else 2
    return Table(name, rows, spec.width, Encoding(spec.encoding), spec.pooling)

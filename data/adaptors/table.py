"""The ``table`` adaptor: any CSV, TSV or Parquet of a user."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa

from dropdrift.data.adaptors.table_description import LabelRule, TableDescription, read_description
from dropdrift.data.adaptors.table_files import TableFiles, replaced, with_seconds
from dropdrift.data.encoding.values import as_numbers
from dropdrift.data.quarantine import BadRows
from dropdrift.data.source import DatasetSpec


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
        self._files = TableFiles(source, self._description.text)
        if not self._files.all_parquet:
            self._check_separators(description)

    @property
    def spec(self) -> DatasetSpec:
        """What the columns mean."""
        return self._description.spec

    @property
    def total_rows(self) -> int | None:
        """The number of rows if all files are Parquet, which says so itself."""
        return self._files.total_rows

    def batches(self, bad_rows: BadRows) -> Iterator[pa.RecordBatch]:
        """All rows, with the columns of fields, labels, user and time.

        Raises:
            ValueError: a file lacks a column or is damaged, or a row is bad in strict mode.
        """
        spec, rules = self.spec, self._description.rules
        columns, numeric = self._columns(), self._numeric()
        for path in self._files.paths:
            row = 1
            for batch in self._files.batches(path, columns, numeric, bad_rows):
                timed = with_seconds(batch, spec.time) if spec.time else batch
                yield _labelled(timed, rules, path, row, bad_rows)
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

    def _check_separators(self, description: Path) -> None:
        for field in self.spec.fields:
            if field.kind in ("multi", "sequence") and not field.separator:
                raise ValueError(
                    f"{description}: field {field.name!r} is {field.kind}: delimited text needs "
                    "its 'separator'"
                )


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
        labelled = replaced(labelled, label, column)
    return labelled if good.all() else labelled.filter(pa.array(good))

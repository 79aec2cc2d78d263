"""From raw columns to ids: what ``prepare`` writes and what ``predict`` does to a user's file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dropdrift.data.encoding.raw_field import RawNumbers, RawTexts, raw_numbers, raw_texts
from dropdrift.data.encoding.values import as_texts
from dropdrift.data.encoding.vocabulary import Vocabulary, hash_texts, load_vocabularies
from dropdrift.data.schema import Field, Schema, Table

_POSITIVE_BITS = np.uint64(2**63 - 1)


@dataclass
class FieldCounts:
    """What encoding met in one field.

    Attributes:
        rows: rows seen.
        missing: rows without a value.
        ids: ids given, over all rows.
        out_of_vocabulary: ids that are 0.
        unparsable: rows of a numeric field with text that is no number; they count as missing.
    """

    rows: int = 0
    missing: int = 0
    ids: int = 0
    out_of_vocabulary: int = 0
    unparsable: int = 0


@dataclass
class EncodingReport:
    """What encoding met.

    Attributes:
        fields: counts by field.
        absent: fields of which no column was there, in schema order.
    """

    fields: dict[str, FieldCounts] = field(default_factory=dict)
    absent: list[str] = field(default_factory=list)


class Encoder:
    """Turns raw columns into columns of ids.

    Args:
        schema: fields and tables.
        vocabularies: by table, for each table encoded by vocabulary.
    """

    def __init__(self, schema: Schema, vocabularies: Mapping[str, Vocabulary]) -> None:
        self.schema = schema
        self._vocabularies = vocabularies

    @staticmethod
    def load(directory: Path) -> Encoder:
        """The encoder of the prepared data set ``directory``.

        Raises:
            ValueError: the schema or a vocabulary is missing or damaged, or they do not match.
        """
        schema = Schema.load(directory)
        return Encoder(schema, load_vocabularies(directory, schema))

    def encode(
        self, batch: pa.RecordBatch | pa.Table, report: EncodingReport | None = None
    ) -> pa.Table:
        """The prepared columns of the schema's fields, in schema order.

        A field without a column is missing in every row; a number that does not parse is missing.
        Columns the schema does not name are ignored.

        Args:
            batch: raw rows, with any of the fields as columns.
            report: takes the counts, which add up over calls.

        Returns:
            int32 columns (null: missing) and list<int32> columns (empty: missing).

        Raises:
            ValueError: a column's type cannot hold the field (a list for a categorical field).
        """
        report = EncodingReport() if report is None else report
        columns = [self._encode_field(batch, f, report) for f in self.schema.fields]
        return pa.table(columns, names=list(self.schema.field_names))

    def _encode_field(
        self, batch: pa.RecordBatch | pa.Table, field: Field, report: EncodingReport
    ) -> pa.Array:
        if field.name in batch.schema.names:
            column = batch.column(field.name)
        else:
            column = pa.nulls(batch.num_rows)
            if field.name not in report.absent:
                report.absent.append(field.name)
        if isinstance(column, pa.ChunkedArray):
            column = column.combine_chunks()
        counts = report.fields.setdefault(field.name, FieldCounts())
        table = self.schema.table(field.table)
        raw: RawNumbers | RawTexts
        if table.encoding.kind == "buckets":
            raw = raw_numbers(column, field)
            ids = _bucket_ids(raw.numbers, table)
            counts.unparsable += int(raw.wrong.sum())
        else:
            raw = raw_texts(column, field)
            ids = self._text_ids(raw.values, table)[raw.codes]
        counts.rows += len(raw.lengths)
        counts.missing += int((raw.lengths == 0).sum())
        counts.ids += len(ids)
        counts.out_of_vocabulary += int((ids == 0).sum())
        return _id_column(ids, raw.lengths, field)

    def _text_ids(self, values: pa.StringArray, table: Table) -> NDArray[np.int32]:
        if table.encoding.kind == "vocabulary":
            return self._vocabularies[table.name].ids(values)
        return (1 + hash_texts(values) % np.uint64(table.rows - 1)).astype(np.int32)


def encode_users(column: pa.Array) -> pa.Array:
    """A stable code for each row's user, int64: a hash of the text form; 0 where there is none."""
    texts = as_texts(column)
    codes = (hash_texts(texts.values) & _POSITIVE_BITS).astype(np.int64)
    # The last entry is what code -1 (no user) finds.
    return pa.array(np.append(codes, 0)[texts.codes])


def _bucket_ids(numbers: NDArray[np.float64], table: Table) -> NDArray[np.int32]:
    edges = np.array(table.encoding.edges, dtype=np.float64)
    return (1 + np.searchsorted(edges, numbers, side="right")).astype(np.int32)


def _id_column(ids: NDArray[np.int32], lengths: NDArray[np.int64], field: Field) -> pa.Array:
    if field.is_bag:
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
        return pa.ListArray.from_arrays(pa.array(offsets), pa.array(ids))
    values = np.zeros(len(lengths), dtype=np.int32)
    values[lengths > 0] = ids
    return pa.array(values, mask=lengths == 0)

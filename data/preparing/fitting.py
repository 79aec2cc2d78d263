"""Fits encodings to the training rows in one pass: vocabularies, bucket edges, missing rates."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dropdrift.data.encoding.raw_field import raw_numbers, raw_texts
from dropdrift.data.encoding.vocabulary import Vocabulary
from dropdrift.data.preparing.checks import unfitted_schema
from dropdrift.data.preparing.reservoir import Reservoir
from dropdrift.data.schema import Encoding, Field, Schema, Table
from dropdrift.data.source import DatasetSpec, FieldSpec

# Distinct values counted for one vocabulary: some gigabytes of memory.
MAX_DISTINCT = 20_000_000
# Numbers sampled for the edges of one table, and of all tables together (256 MiB).
MAX_SAMPLE = 1 << 20
MAX_SAMPLE_IN_ALL = 1 << 25
# Values that wait to be merged into the counts, at the least.
_PENDING = 1 << 16


class ValueCounter:
    """Counts the values of one vocabulary table.

    Batches of counts wait until they are as many as the merged ones, so that each value is merged
    a logarithmic number of times.

    Args:
        table: the table's name, for messages.
    """

    def __init__(self, table: str) -> None:
        self._table = table
        self._merged = _counts_table(pa.array([], pa.string()), np.zeros(0, np.int64))
        self._pending: list[pa.Table] = []
        self._pending_rows = 0

    def add(self, values: pa.StringArray, counts: NDArray[np.int64]) -> None:
        """Add ``counts`` [U] to those of ``values`` [U].

        Raises:
            ValueError: there are more distinct values than can be counted.
        """
        self._pending.append(_counts_table(values, counts))
        self._pending_rows += len(values)
        if self._pending_rows > max(_PENDING, self._merged.num_rows):
            self._merge()

    def vocabulary(self, size: int, min_count: int) -> Vocabulary:
        """The ``size`` most frequent values (0: all) of those that occur ``min_count`` times."""
        self._merge()
        order = self._merged.sort_by([("count", "descending"), ("value", "ascending")])
        kept = int(np.count_nonzero(order.column("count").to_numpy() >= min_count))
        order = order.slice(0, min(kept, size or kept)).combine_chunks()
        counts = order.column("count").to_numpy()
        return Vocabulary(order.column("value").combine_chunks(), counts)

    def _merge(self) -> None:
        both = pa.concat_tables([self._merged, *self._pending])
        grouped = both.group_by("value").aggregate([("count", "sum")])
        self._merged = grouped.select(["value", "count_sum"]).rename_columns(["value", "count"])
        self._pending, self._pending_rows = [], 0
        if self._merged.num_rows > MAX_DISTINCT:
            raise ValueError(
                f"table {self._table!r} has more than {MAX_DISTINCT:,} distinct values, too many "
                "to count: give its fields the encoding 'hash'"
            )


@dataclass
class _FieldTotals:
    rows: int = 0
    missing: int = 0
    values: int = 0


class Fitter:
    """Sees the training rows once, batch by batch, and knows the schema then.

    Args:
        spec: the description of the columns.

    Raises:
        ValueError: the description contradicts itself.
    """

    def __init__(self, spec: DatasetSpec) -> None:
        self._unfitted = unfitted_schema(spec)
        # The fields of a table agree in the options that are read from here.
        self._specs: Mapping[str, FieldSpec] = {f.table_name: f for f in spec.fields}
        self._totals = {field.name: _FieldTotals() for field in self._unfitted.fields}
        by_kind = {
            kind: [table.name for table in self._unfitted.tables if table.encoding.kind == kind]
            for kind in ("vocabulary", "buckets")
        }
        self._counters = {name: ValueCounter(name) for name in by_kind["vocabulary"]}
        capacity = min(MAX_SAMPLE, MAX_SAMPLE_IN_ALL // max(1, len(by_kind["buckets"])))
        generators = np.random.default_rng(0).spawn(len(by_kind["buckets"]))
        self._samples = {
            name: Reservoir(capacity, generator)
            for name, generator in zip(by_kind["buckets"], generators, strict=True)
        }

    def add(self, rows: pa.RecordBatch) -> None:
        """Count the values of checked training rows."""
        for field in self._unfitted.fields:
            self._add_field(field, rows.column(field.name))

    def _add_field(self, field: Field, column: pa.Array) -> None:
        if field.table in self._samples:
            raw_number = raw_numbers(column, field)
            self._samples[field.table].add(raw_number.numbers)
            lengths = raw_number.lengths
        else:
            raw_text = raw_texts(column, field)
            if field.table in self._counters:
                counts = np.bincount(raw_text.codes, minlength=len(raw_text.values))
                self._counters[field.table].add(raw_text.values, counts)
            lengths = raw_text.lengths
        totals = self._totals[field.name]
        totals.rows += len(lengths)
        totals.missing += int(np.count_nonzero(lengths == 0))
        totals.values += int(lengths.sum())

    def fitted(self) -> tuple[Schema, dict[str, Vocabulary]]:
        """The complete schema, and the vocabulary of each table that has one."""
        vocabularies = {
            name: counter.vocabulary(self._specs[name].size, self._specs[name].min_count)
            for name, counter in self._counters.items()
        }
        schema = dataclasses.replace(
            self._unfitted,
            fields=tuple(self._fitted_field(field) for field in self._unfitted.fields),
            tables=tuple(self._fitted_table(t, vocabularies) for t in self._unfitted.tables),
        )
        return schema, vocabularies

    def _fitted_field(self, field: Field) -> Field:
        totals = self._totals[field.name]
        rows = max(1, totals.rows)
        return dataclasses.replace(
            field, missing_rate=totals.missing / rows, pooling_factor=totals.values / rows
        )

    def _fitted_table(self, table: Table, vocabularies: Mapping[str, Vocabulary]) -> Table:
        if table.name in vocabularies:
            vocabulary = vocabularies[table.name]
            encoding = Encoding("vocabulary", digest=vocabulary.digest)
            return dataclasses.replace(table, rows=max(2, len(vocabulary) + 1), encoding=encoding)
        if table.name in self._samples:
            sample = self._samples[table.name].sorted_sample()
            edges = quantile_edges(sample, self._specs[table.name].size)
            encoding = Encoding("buckets", edges=edges)
            return dataclasses.replace(table, rows=len(edges) + 2, encoding=encoding)
        return table


def quantile_edges(ordered: NDArray[np.float64], buckets: int) -> tuple[float, ...]:
    """Edges that cut ``ordered`` (ascending) into at most ``buckets`` buckets of like size.

    Fewer where values repeat: an edge is a value of the sample, is listed once, and is above the
    lowest value, so that no bucket is empty.
    """
    if not len(ordered):
        return ()
    places = [-(-len(ordered) * i // buckets) for i in range(1, buckets)]
    edges = np.unique(ordered[np.minimum(places, len(ordered) - 1)])
    return tuple(edges[edges > ordered[0]].tolist())


def _counts_table(values: pa.StringArray, counts: NDArray[np.int64]) -> pa.Table:
    return pa.table({"value": values.cast(pa.large_string()), "count": counts})

"""``dropdrift prepare``: raw rows in, a prepared data set out.

A prepared data set is a folder::

    schema.yaml              the fields, tables and labels (data.schema)
    statistics.json          what was counted (data.preparing.statistics)
    quarantine.jsonl         rows that were set aside, if any
    example.parquet          the first raw rows of the test part: an input for 'dropdrift predict'
    vocabularies/<table>.parquet
    train/part-00000.parquet ...  validation/...  test/...

The source is read twice, or three times where the split is by shares of the rows: to find where to
cut, to fit vocabularies and bucket edges to the training part, and to write the ids. Memory holds
a batch, the counts of distinct values and a bounded sample of each numeric field, never the rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from dropdrift.data.bayes_optimal import BayesOptimalAUC
from dropdrift.data.columns import TIME_COLUMN, USER_COLUMN, label_column
from dropdrift.data.encoding.encoder import Encoder, EncodingReport, encode_users
from dropdrift.data.preparing.checks import checked_batches, named, unfitted_schema
from dropdrift.data.preparing.fitting import Fitter
from dropdrift.data.preparing.new_folder import new_data_folder
from dropdrift.data.preparing.part_writer import PartWriter
from dropdrift.data.preparing.progress import RowProgress
from dropdrift.data.preparing.splitting import PARTS, KeyedBatch, fraction_cut, keyed_batches
from dropdrift.data.preparing.statistics import (
    PartCounts,
    TableFrequencies,
    field_summary,
    write_statistics,
)
from dropdrift.data.quarantine import BadRowMode, BadRows
from dropdrift.data.schema import Schema
from dropdrift.data.source import DatasetSpec, FractionSplit, Source, TimeSplit

EXAMPLE_FILE = "example.parquet"
EXAMPLE_ROWS = 1_000


def prepare(
    source: Source,
    out: Path,
    *,
    bad_rows: BadRowMode = "strict",
    overwrite: bool = False,
    progress: bool = True,
    provenance: Mapping[str, Any] | None = None,
) -> Schema:
    """Fit encodings to the training part of ``source`` and write all parts as ids.

    Args:
        source: the raw rows.
        out: the folder to make.
        bad_rows: ``strict`` refuses the first row that cannot be read, ``quarantine`` sets such
            rows aside and counts them.
        overwrite: replace the prepared data set that is there.
        progress: show a progress bar on standard error.
        provenance: command line, versions and the like, kept in ``statistics.json`` as they are.

    Returns:
        The fitted schema.

    Raises:
        ValueError: ``out`` exists; the source's description contradicts itself or its columns; a
            part is empty; a label is not 0 or 1, has no value in a part or only one class in
            training; a row is bad in strict mode. Nothing is left of ``out`` then.
    """
    unfitted_schema(source.spec)
    with (
        new_data_folder(out, overwrite=overwrite) as folder,
        RowProgress(source.total_rows, shown=progress) as bar,
    ):
        passes = _Passes(source, bad_rows, bar)
        cut = _cut(source.spec, passes)
        encoder = _fit(source.spec, passes, cut, folder)
        statistics = _write_parts(source.spec, passes, cut, encoder, folder)
        write_statistics(statistics, provenance, passes.bad_rows, folder)
    return encoder.schema


class _Passes:
    """Reads the source again and again; ``bad_rows`` are those of the newest pass."""

    def __init__(self, source: Source, mode: BadRowMode, bar: RowProgress) -> None:
        self._source = source
        self._mode = mode
        self._bar = bar
        self.bad_rows = BadRows(mode)

    def read(self, description: str) -> Iterator[KeyedBatch]:
        """One pass; ValueError at its end if no row came."""
        self.bad_rows = BadRows(self._mode)
        checked = checked_batches(self._source, self.bad_rows)
        rows = 0
        for batch in keyed_batches(self._bar.track(checked, description), self._source.spec):
            rows += len(batch.keys)
            yield batch
        if not rows:
            aside = f"; rows set aside: {self.bad_rows.count:,}" if self.bad_rows.count else ""
            raise ValueError(f"data set {self._source.spec.name!r} has no row{aside}")


def _cut(spec: DatasetSpec, passes: _Passes) -> TimeSplit:
    if isinstance(spec.split, FractionSplit):
        return fraction_cut(passes.read("find the parts"), spec.split)
    return spec.split


def _fit(spec: DatasetSpec, passes: _Passes, cut: TimeSplit, folder: Path) -> Encoder:
    """Fits schema and vocabularies, writes them into ``folder``, and checks the parts."""
    fitter = Fitter(spec)
    counts = [PartCounts(spec.labels) for _ in PARTS]
    first, last = float("inf"), float("-inf")
    for batch in passes.read("fit to training"):
        for part, rows in batch.parts(cut):
            counts[part].add(rows)
            if PARTS[part] == "train":
                with named(spec.name):
                    fitter.add(rows)
        if len(batch.keys):
            first, last = min(first, batch.keys.min()), max(last, batch.keys.max())
    _check_parts(spec, counts, cut, f"from {first:.15g} to {last:.15g}")
    schema, vocabularies = fitter.fitted()
    schema.save(folder)
    for table, vocabulary in vocabularies.items():
        vocabulary.save(folder, table)
    return Encoder(schema, vocabularies)


def _check_parts(spec: DatasetSpec, counts: list[PartCounts], cut: TimeSplit, extent: str) -> None:
    origin = f"data set {spec.name!r}"
    key = f"column {spec.time!r}" if spec.time else "the position of a row"
    for part, count in zip(PARTS, counts, strict=True):
        if not count.rows:
            raise ValueError(
                f"{origin}: the {part} part is empty: validation begins at "
                f"{cut.validation_from:.15g} and test at {cut.test_from:.15g}, but {key} goes "
                f"{extent}; give another split"
            )
        for label, known in count.known.items():
            if not known:
                raise ValueError(f"{origin}: label {label!r} has no value in the {part} part")
    for label, positive in counts[0].positive.items():
        if positive in (0, counts[0].known[label]):
            value = int(positive > 0)
            raise ValueError(
                f"{origin}: label {label!r} is {value} in all rows of the train part, so there is "
                "nothing to learn; leave it out or give another split"
            )


def _write_parts(
    spec: DatasetSpec, passes: _Passes, cut: TimeSplit, encoder: Encoder, folder: Path
) -> dict[str, Any]:
    """Writes the parts and the example; returns what was counted."""
    counts = [PartCounts(spec.labels) for _ in PARTS]
    reports = [EncodingReport() for _ in PARTS]
    oracles = [BayesOptimalAUC() for _ in PARTS]
    frequencies = TableFrequencies(encoder.schema)
    example = _Example()
    with ExitStack() as stack:
        writers = [stack.enter_context(PartWriter(folder / part)) for part in PARTS]
        for batch in passes.read("write ids"):
            for part, checked in batch.parts(cut):
                rows = _without_oracle(checked, spec.oracle, oracles[part])
                with named(spec.name):
                    encoded = encoder.encode(rows, reports[part])
                counts[part].add(rows)
                if PARTS[part] == "train":
                    frequencies.add(encoded)
                if PARTS[part] == "test":
                    example.add(rows)
                writers[part].add(_with_targets(encoded, rows, spec))
    example.write(folder / EXAMPLE_FILE)
    parts = zip(PARTS, counts, reports, strict=True)
    best = {part: oracle.auc for part, oracle in zip(PARTS, oracles, strict=True)}
    return {
        "name": spec.name,
        "split": {"validation_from": cut.validation_from, "test_from": cut.test_from},
        **({"bayes_optimal_auc": best} if spec.oracle else {}),
        "parts": {p: count.summary() | {"fields": field_summary(r)} for p, count, r in parts},
        "tables": frequencies.summary(),
    }


def _without_oracle(rows: pa.RecordBatch, column: str, oracle: BayesOptimalAUC) -> pa.RecordBatch:
    """The rows without the true probabilities, which ``oracle`` counts."""
    if not column:
        return rows
    oracle.add(rows.column(column).to_numpy())
    return rows.drop_columns([column])


def _with_targets(encoded: pa.Table, rows: pa.RecordBatch, spec: DatasetSpec) -> pa.Table:
    for label in spec.labels:
        encoded = encoded.append_column(label_column(label), rows.column(label))
    if spec.user:
        encoded = encoded.append_column(USER_COLUMN, encode_users(rows.column(spec.user)))
    if spec.time:
        encoded = encoded.append_column(TIME_COLUMN, rows.column(spec.time))
    return encoded


class _Example:
    """The first raw rows that it is shown, as far as their columns keep their types."""

    def __init__(self) -> None:
        self._batches: list[pa.RecordBatch] = []
        self._open = EXAMPLE_ROWS

    def add(self, rows: pa.RecordBatch) -> None:
        """Keep the first of these rows, as long as there is room."""
        if self._batches and rows.schema != self._batches[0].schema:
            self._open = 0
        if self._open:
            self._batches.append(rows.slice(0, self._open))
            self._open -= self._batches[-1].num_rows

    def write(self, path: Path) -> None:
        """Write what was kept as Parquet."""
        pq.write_table(pa.Table.from_batches(self._batches), path, compression="zstd")

"""What ``prepare`` counts: rows, labels, missing values, and how lookups spread over the ids."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dropdrift.data.encoding.encoder import EncodingReport
from dropdrift.data.quarantine import BadRows
from dropdrift.data.schema import Schema

STATISTICS_FILE = "statistics.json"
STATISTICS_VERSION = 1
QUARANTINE_FILE = "quarantine.jsonl"
TOP_IDS = (1, 10, 100, 1000)


def write_statistics(
    statistics: Mapping[str, Any],
    provenance: Mapping[str, Any] | None,
    bad_rows: BadRows,
    folder: Path,
) -> None:
    """Write what was counted, and the rows that were set aside if there are any."""
    payload = {
        "format_version": STATISTICS_VERSION,
        **statistics,
        "bad_rows": dict(bad_rows.reasons),
        "provenance": provenance,
    }
    text = json.dumps(payload, indent=2, ensure_ascii=False) + "\n"
    (folder / STATISTICS_FILE).write_text(text, encoding="utf-8")
    if bad_rows.count:
        bad_rows.save(folder / QUARANTINE_FILE)


class PartCounts:
    """Rows and labels of one part, counted from checked raw rows.

    Attributes:
        rows: number of rows.
        known: rows with a value, by label.
        positive: rows with a 1, by label.
    """

    def __init__(self, labels: tuple[str, ...]) -> None:
        self.rows = 0
        self.known = dict.fromkeys(labels, 0)
        self.positive = dict.fromkeys(labels, 0)

    def add(self, rows: pa.RecordBatch) -> None:
        """Count ``rows``, with the labels as int8 columns."""
        self.rows += rows.num_rows
        for label in self.known:
            values = rows.column(label).drop_null().to_numpy()
            self.known[label] += len(values)
            self.positive[label] += int(values.sum())

    def summary(self) -> dict[str, Any]:
        """Rows, and for each label the rows where it is known and the share of ones in them."""
        labels = {
            label: {"known": known, "rate": _share(self.positive[label], known)}
            for label, known in self.known.items()
        }
        return {"rows": self.rows, "labels": labels}


class IdFrequencies:
    """How often each row of a table is looked up: 8 bytes a row."""

    def __init__(self, rows: int) -> None:
        self._counts = np.zeros(rows, dtype=np.int64)

    def add(self, ids: NDArray[np.int32]) -> None:
        """Count the lookups of ``ids``."""
        np.add.at(self._counts, ids, 1)

    def summary(self) -> dict[str, Any]:
        """Lookups, distinct ids, the share of the most frequent ones, and a histogram.

        A bin of the histogram holds the ids looked up ``from`` times or more but less than
        twice that, and all their lookups.
        """
        counts = np.sort(self._counts[self._counts > 0])[::-1]
        running = np.cumsum(counts)
        lookups = int(running[-1]) if len(counts) else 0
        top = {k: int(running[min(k, len(counts)) - 1]) if lookups else 0 for k in TOP_IDS}
        bins = np.frexp(counts.astype(np.float64))[1] - 1
        return {
            "rows": len(self._counts),
            "lookups": lookups,
            "distinct_ids": len(counts),
            "out_of_vocabulary_lookups": int(self._counts[0]),
            "top_share": {str(k): _share(taken, lookups) for k, taken in top.items()},
            "histogram": [
                {"from": 2 ** int(b), "ids": int((bins == b).sum()), "lookups": int(taken)}
                for b in np.unique(bins)
                if (taken := counts[bins == b].sum())
            ],
        }


class TableFrequencies:
    """Id frequencies of all tables of a schema, over the fields that share them."""

    def __init__(self, schema: Schema) -> None:
        self._tables = {field.name: field.table for field in schema.fields}
        self._frequencies = {table.name: IdFrequencies(table.rows) for table in schema.tables}

    def add(self, encoded: pa.Table) -> None:
        """Count the ids of encoded rows."""
        for name, table in self._tables.items():
            for chunk in encoded.column(name).chunks:
                ids = chunk.flatten() if pa.types.is_list(chunk.type) else chunk.drop_null()
                self._frequencies[table].add(ids.to_numpy())

    def summary(self) -> dict[str, Any]:
        """See ``IdFrequencies.summary``, by table."""
        return {name: frequency.summary() for name, frequency in self._frequencies.items()}


def field_summary(report: EncodingReport) -> dict[str, Any]:
    """Missing rate, ids a row and share of ids out of vocabulary, by field."""
    return {
        name: {
            "missing_rate": _share(counts.missing, counts.rows),
            "pooling_factor": _share(counts.ids, counts.rows),
            "out_of_vocabulary": _share(counts.out_of_vocabulary, counts.ids),
        }
        for name, counts in report.fields.items()
    }


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None

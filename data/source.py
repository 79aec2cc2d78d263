"""What an adaptor offers to ``prepare``: a description of the columns and a stream of raw rows.

An adaptor knows one official layout; it joins, derives and names columns, and knows nothing of
vocabularies, ids or parts.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import pyarrow as pa

from dropdrift.data.quarantine import BadRows
from dropdrift.data.schema import DataKind, EncodingKind, FieldGroup, FieldKind, Pooling


@dataclass(frozen=True)
class FieldSpec:
    """A column before anything is fitted; the names mean what they mean in ``schema.Field``.

    Attributes:
        encoding: see ``schema.Encoding``; ``buckets`` is for numeric fields alone.
        size: rows of the table for ``hash``, number of quantile buckets for ``buckets``, the
            largest vocabulary kept for ``vocabulary`` (the most frequent values win; 0: all).
        min_count: training occurrences a value needs for an entry of its own in a vocabulary.
        table: the table it shares with other fields; by default one of its own name.
        width: of the embeddings, a multiple of 4.
    """

    name: str
    kind: FieldKind
    encoding: EncodingKind
    size: int = 0
    min_count: int = 1
    group: FieldGroup = "context"
    identifier: bool = False
    table: str = ""
    width: int = 16
    pooling: Pooling = "mean"
    missing_codes: tuple[str, ...] = ()
    separator: str = ""
    max_length: int = 1

    @property
    def table_name(self) -> str:
        """The table its ids belong to."""
        return self.table or self.name


@dataclass(frozen=True)
class TimeSplit:
    """Training rows have time < ``validation_from``; test rows have time >= ``test_from``.

    Times are numbers in the unit of the time column.
    """

    validation_from: float
    test_from: float


@dataclass(frozen=True)
class FractionSplit:
    """The last shares of the rows *in time order*; rows of one time stay together.

    Without a time column the order of the rows in the source is taken for the order of time.
    """

    validation: float = 0.1
    test: float = 0.1


@dataclass(frozen=True)
class DatasetSpec:
    """What the columns of a source's batches mean. Other columns are ignored.

    Attributes:
        labels: columns with 0, 1 or null (label unknown for that row).
        user: the column naming a row's user, for UAUC; empty: none.
        time: the numeric column to split by; empty: none.
        oracle: the column with the true probability of the first label, in a source that has made
            its labels up; empty: none. It is counted, and written nowhere.
        kind: see ``schema.Schema``; interactions are described by ``data.interactions.source``.
    """

    name: str
    fields: tuple[FieldSpec, ...]
    labels: tuple[str, ...]
    split: TimeSplit | FractionSplit
    user: str = ""
    time: str = ""
    oracle: str = ""
    kind: DataKind = "impressions"


class Source(Protocol):
    """A stream of raw rows that can be started any number of times and is the same every time."""

    @property
    def spec(self) -> DatasetSpec:
        """What the columns mean."""

    @property
    def total_rows(self) -> int | None:
        """The number of rows, where it is known without reading them: for a progress bar."""

    def batches(self, bad_rows: BadRows) -> Iterator[pa.RecordBatch]:
        """All rows, in order, some tens of thousands at a time.

        Categorical columns are text or integers; numeric, label and time columns are numbers;
        multi-valued columns and sequences are lists, or text with a separator. A row that cannot
        be read goes to ``bad_rows`` and is left out.

        Raises:
            ValueError: a file is missing or is not in the layout, or a row is bad in strict mode.
        """

"""Criteo Kaggle (Display Advertising Challenge, 2014): ``train.txt`` in its official layout.

Tab-separated, without a header: the label, 13 integers I1 to I13 and 26 categories C1 to C26,
hashed and of undisclosed meaning. An empty value is missing. The rows are in order of time, over
seven days, but carry neither time nor user, so the parts are shares of the file.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pyarrow as pa

from dropdrift.data.adaptors.delimited import read_delimited
from dropdrift.data.adaptors.files import require_file
from dropdrift.data.quarantine import BadRows
from dropdrift.data.source import DatasetSpec, FieldSpec, FractionSplit

LAYOUT = "Criteo Kaggle's train.txt or the folder that holds it"
LABEL = "label"
INTEGERS = tuple(f"I{i}" for i in range(1, 14))
CATEGORIES = tuple(f"C{i}" for i in range(1, 27))
BUCKETS = 32


@dataclass(frozen=True)
class CriteoSource:
    """The rows of ``train.txt``, in its order.

    Attributes:
        path: The file 'train.txt', or the folder that holds it.
        encoding: How categories become ids.
        min_count: Training rows that a category needs for an id of its own (vocabulary).
        hash_rows: Rows of each category's table (hash).
    """

    path: Path
    encoding: Literal["vocabulary", "hash"] = "vocabulary"
    min_count: int = 10
    hash_rows: int = 100_000

    def __post_init__(self) -> None:
        for name, least in (("min_count", 1), ("hash_rows", 2)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} is {getattr(self, name)}, must be at least {least}")

    @property
    def spec(self) -> DatasetSpec:
        """39 fields and one label; no user and no time."""
        return DatasetSpec(
            name="criteo",
            fields=(
                *(FieldSpec(name, "numeric", "buckets", size=BUCKETS) for name in INTEGERS),
                *(self._category(name) for name in CATEGORIES),
            ),
            labels=(LABEL,),
            split=FractionSplit(),
        )

    @property
    def total_rows(self) -> int | None:
        """Unknown without reading the file."""
        return None

    def batches(self, bad_rows: BadRows) -> Iterator[pa.RecordBatch]:
        """All rows.

        Raises:
            ValueError: the file is missing, or a row is bad in strict mode.
        """
        file = self.path / "train.txt" if self.path.is_dir() else self.path
        return read_delimited(
            require_file(file, LAYOUT),
            columns=(LABEL, *INTEGERS, *CATEGORIES),
            delimiter="\t",
            numeric=(LABEL, *INTEGERS),
            bad_rows=bad_rows,
            quote="",
        )

    def _category(self, name: str) -> FieldSpec:
        if self.encoding == "hash":
            return FieldSpec(name, "categorical", "hash", size=self.hash_rows)
        return FieldSpec(name, "categorical", "vocabulary", min_count=self.min_count)

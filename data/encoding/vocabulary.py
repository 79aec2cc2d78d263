"""Vocabularies: the values of a table that have a row of their own, and their file.

``vocabularies/<table>.parquet`` has the columns ``value`` (string) and ``count`` (int64,
occurrences in the training part), most frequent first and ties by value; row i has id i + 1.
"""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from dropdrift.data.parquet_file import reading_parquet
from dropdrift.data.schema import Schema, Table

VOCABULARY_FOLDER = "vocabularies"


def hash_texts(texts: pa.StringArray) -> NDArray[np.uint64]:
    """A hash of each text, uint64 [U], the same on every machine and in every process."""
    # Finding equal texts first, the default, gives the same hashes and costs more than it saves.
    values = texts.to_numpy(zero_copy_only=False)
    hashes: NDArray[np.uint64] = pd.util.hash_array(values, categorize=False)
    return hashes


class Vocabulary:
    """The values of one table that have ids.

    Args:
        values: text [V], each once, without nulls.
        counts: int64 [V], how often each occurs in the training part.
    """

    def __init__(self, values: pa.Array, counts: NDArray[np.int64]) -> None:
        # 64-bit offsets: the texts of millions of values may exceed 2 GB.
        self.values = values.cast(pa.large_string())
        self.counts = counts

    def __len__(self) -> int:
        return len(self.values)

    @functools.cached_property
    def digest(self) -> str:
        """SHA-256 over the values in order: their lengths in bytes, then their bytes."""
        digest = hashlib.sha256(pc.binary_length(self.values).to_numpy().astype("<i8").tobytes())
        _, offsets, content = self.values.buffers()
        if content is not None:
            ends = np.frombuffer(offsets, np.int64)[self.values.offset :][: len(self.values) + 1]
            digest.update(memoryview(content)[int(ends[0]) : int(ends[-1])])
        return digest.hexdigest()

    def ids(self, texts: pa.StringArray) -> NDArray[np.int32]:
        """The id of each text, int32 [U]; 0 for one that is not in the vocabulary."""
        if not len(self.values) or not len(texts):
            return np.zeros(len(texts), dtype=np.int32)
        hashes, order = self._index
        found = np.searchsorted(hashes, hash_texts(texts))
        positions = order[np.minimum(found, len(order) - 1)]
        same = pc.equal(self.values.take(pa.array(positions)), texts.cast(pa.large_string()))
        return np.where(same.to_numpy(zero_copy_only=False), positions + 1, 0).astype(np.int32)

    @functools.cached_property
    def _index(self) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
        """The hashes in ascending order and the position of each one's value.

        Of two values with one hash (odds of 1 in 100,000 among 20 million values) the first alone
        is found.
        """
        hashes = hash_texts(self.values)
        order = np.argsort(hashes, kind="stable")
        return hashes[order], order

    def save(self, directory: Path, table: str) -> None:
        """Write the file of ``table`` into the prepared data set ``directory``."""
        path = vocabulary_path(directory, table)
        path.parent.mkdir(exist_ok=True)
        content = pa.table({"value": self.values, "count": self.counts})
        # Without the Arrow schema, 64-bit offsets do not show: the column is a plain string.
        pq.write_table(content, path, compression="zstd", store_schema=False)

    @staticmethod
    def load(directory: Path, table: Table) -> Vocabulary:
        """Read the vocabulary of ``table`` and hold it against the schema's digest.

        Raises:
            ValueError: the file is missing or damaged, or the schema was fitted with another.
        """
        path = vocabulary_path(directory, table.name)
        if not path.is_file():
            raise ValueError(f"{path} does not exist, table {table.name!r} of the schema needs it")
        with reading_parquet(path):
            content = pq.read_table(path, columns=["value", "count"])
        values = content.column("value").cast(pa.large_string()).combine_chunks()
        vocabulary = Vocabulary(values, content.column("count").to_numpy())
        if vocabulary.digest != table.encoding.digest:
            raise ValueError(
                f"{path} is not the vocabulary that table {table.name!r} of the schema was fitted "
                "with: its digest differs; run 'dropdrift prepare' again"
            )
        return vocabulary


def vocabulary_path(directory: Path, table: str) -> Path:
    """The file of ``table``'s vocabulary in the prepared data set ``directory``."""
    return directory / VOCABULARY_FOLDER / f"{table}.parquet"


def load_vocabularies(directory: Path, schema: Schema) -> dict[str, Vocabulary]:
    """The vocabularies of all tables that have one, by table; see ``Vocabulary.load``."""
    return {
        table.name: Vocabulary.load(directory, table)
        for table in schema.tables
        if table.encoding.kind == "vocabulary"
    }

"""MovieLens-1M as sequences: every rating, whatever its value, is an interaction.

The files are small (24 MB) and read as a whole. Rows stay in the order of ``ratings.dat``, which is
not that of time within a user.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from dropdrift.data.adaptors.movielens_files import MovieLensFiles
from dropdrift.data.interactions.source import InteractionSpec
from dropdrift.data.quarantine import BadRows
from dropdrift.data.source import FieldSpec

BATCH_ROWS = 65_536


@dataclass(frozen=True)
class MovieLensInteractions:
    """The ratings of MovieLens-1M, and its movies with genres and year.

    Attributes:
        path: The file 'ml-1m.zip', the folder 'ml-1m', or the folder that holds one of them.
    """

    path: Path

    @property
    def spec(self) -> InteractionSpec:
        """Two side fields, ``genres`` and ``release_year``."""
        return InteractionSpec(
            name="movielens",
            user="user_id",
            item="movie_id",
            time="timestamp",
            title="title",
            fields=(
                FieldSpec(
                    "genres", "multi", "vocabulary", group="item", separator="|", max_length=6
                ),
                FieldSpec("release_year", "numeric", "buckets", size=16, group="item"),
            ),
        )

    @property
    def total_rows(self) -> int | None:
        """Unknown without reading the file."""
        return None

    def batches(self, bad_rows: BadRows) -> Iterator[pa.RecordBatch]:
        """All ratings, in the order of the file.

        Raises:
            ValueError: the file is missing, or a row is bad in strict mode.
        """
        columns = ("user_id", "movie_id", "rating", "timestamp")
        ratings = MovieLensFiles(self.path).read(
            "ratings.dat", columns, ("rating", "timestamp"), bad_rows
        )
        for start in range(0, ratings.num_rows, BATCH_ROWS):
            yield ratings.slice(start, BATCH_ROWS)

    def items(self, bad_rows: BadRows) -> Iterator[pa.RecordBatch]:
        """All movies that are listed.

        Raises:
            ValueError: the file is missing, or a row is bad in strict mode.
        """
        yield MovieLensFiles(self.path).movies(bad_rows)

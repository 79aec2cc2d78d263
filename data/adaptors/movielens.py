"""MovieLens-1M as a ranking task: is the movie rated 4 or 5?

Harper and Konstan, "The MovieLens Datasets: History and Context", TiiS 2015. Ratings are joined
with users and movies and sorted by time; the parts are shares of the rows in that order. As most
users rate on one day only, most rows of the last parts are those of new users.

The set is small (24 MB) and not in order of time, so it is read and sorted in memory. Where the
times of a user's ratings are only partly real, their order is what can be relied on: no field is
made from the time that passed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dropdrift.data.adaptors.movielens_files import MovieLensFiles
from dropdrift.data.adaptors.recent import earlier_counts, recent_values
from dropdrift.data.adaptors.side_table import SideTable
from dropdrift.data.quarantine import BadRows
from dropdrift.data.source import DatasetSpec, FieldSpec, FractionSplit

LEAST_LIKED = 4
RECENT = 20
BATCH_ROWS = 65_536


@dataclass(frozen=True)
class MovieLensSource:
    """The ratings of MovieLens-1M in the order of time.

    Attributes:
        path: The file 'ml-1m.zip', the folder 'ml-1m', or the folder that holds one of them.
    """

    path: Path

    @property
    def spec(self) -> DatasetSpec:
        """Eleven fields and the label ``liked``.

        Of the user's ratings strictly before the row's time, ``recent_liked`` holds the last 20
        movies with that label, ``recent_disliked`` the last 20 without, and ``liked_share`` is the
        share with it.
        """
        return DatasetSpec(
            name="movielens",
            fields=tuple(_fields()),
            labels=("liked",),
            split=FractionSplit(),
            user="user_id",
            time="timestamp",
        )

    @property
    def total_rows(self) -> int | None:
        """Unknown without reading the file."""
        return None

    def batches(self, bad_rows: BadRows) -> Iterator[pa.RecordBatch]:
        """All ratings.

        Raises:
            ValueError: a file is missing, or a row is bad in strict mode.
        """
        files = MovieLensFiles(self.path)
        columns = ("user_id", "movie_id", "rating", "timestamp")
        ratings = files.read("ratings.dat", columns, ("rating", "timestamp"), bad_rows)
        ratings = ratings.take(pc.sort_indices(ratings, sort_keys=[("timestamp", "ascending")]))
        users = _users(files, bad_rows)
        movies = _movies(files, bad_rows)
        liked = pc.greater_equal(ratings.column("rating"), LEAST_LIKED)
        rows = {
            "user_id": ratings.column("user_id"),
            "movie_id": ratings.column("movie_id"),
            "timestamp": ratings.column("timestamp"),
            "liked": liked.cast(pa.int8()),
            **_earlier_ratings(ratings, liked),
        }
        rows |= users.lookup(rows["user_id"]) | movies.lookup(rows["movie_id"])
        joined = pa.RecordBatch.from_pydict(rows)
        for start in range(0, joined.num_rows, BATCH_ROWS):
            yield joined.slice(start, BATCH_ROWS)


def _fields() -> Iterator[FieldSpec]:
    # An id seen once stands for the unseen ones: so their row is trained.
    identifier = partial(
        FieldSpec, kind="categorical", encoding="vocabulary", min_count=2, identifier=True
    )
    category = partial(FieldSpec, kind="categorical", encoding="vocabulary")
    yield identifier("user_id", group="user")
    for name in ("gender", "age", "occupation", "zip_area"):
        yield category(name, group="user")
    for name in ("recent_liked", "recent_disliked"):
        yield FieldSpec(
            name,
            "sequence",
            "vocabulary",
            min_count=2,
            group="user",
            table="movie_id",
            max_length=RECENT,
        )
    yield FieldSpec("liked_share", "numeric", "buckets", size=16, group="user")
    yield identifier("movie_id", group="item")
    yield FieldSpec("release_year", "numeric", "buckets", size=16, group="item")
    yield FieldSpec("genres", "multi", "vocabulary", group="item", separator="|", max_length=6)


def _users(files: MovieLensFiles, bad_rows: BadRows) -> SideTable:
    columns = ("user_id", "gender", "age", "occupation", "zip_code")
    users = files.read("users.dat", columns, (), bad_rows)
    # The first three digits of a zip code are a region of the United States.
    area = pc.utf8_slice_codeunits(users.column("zip_code"), 0, 3)
    users = users.select(list(columns[:-1])).append_column("zip_area", area)
    return SideTable([users], "user_id", files.path("users.dat"))


def _movies(files: MovieLensFiles, bad_rows: BadRows) -> SideTable:
    movies = files.movies(bad_rows).select(["movie_id", "genres", "release_year"])
    return SideTable([movies], "movie_id", files.path("movies.dat"))


def _earlier_ratings(ratings: pa.RecordBatch, liked: pa.BooleanArray) -> dict[str, pa.Array]:
    """What each row's user has rated strictly before the row's time."""
    users = ratings.column("user_id").dictionary_encode().indices.to_numpy()
    times = ratings.column("timestamp").to_numpy(zero_copy_only=False)
    known = liked.is_valid().to_numpy(zero_copy_only=False)
    good = liked.fill_null(False).to_numpy(zero_copy_only=False)
    recent = partial(recent_values, users, times, ratings.column("movie_id"), length=RECENT)
    rated, rated_good = (earlier_counts(users, times, kept) for kept in (known, good))
    with np.errstate(invalid="ignore"):  # a user's first ratings have none before them
        share = pa.array(rated_good / rated, from_pandas=True)
    return {
        "recent_liked": recent(kept=good),
        "recent_disliked": recent(kept=known & ~good),
        "liked_share": share,
    }

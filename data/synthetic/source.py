"""The synthetic set as a source of raw rows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from dropdrift.data.bayes_optimal import BayesOptimalAUC
from dropdrift.data.counter import Keys, stream_key
from dropdrift.data.quarantine import BadRows
from dropdrift.data.source import DatasetSpec, TimeSplit
from dropdrift.data.synthetic.fields import all_views, field_specs
from dropdrift.data.synthetic.labels import LABELS, draw_label, probability
from dropdrift.data.synthetic.missing import Holes, holes_of_rate
from dropdrift.data.synthetic.views import Entity, View
from dropdrift.data.synthetic.world import DAY, FIRST_DAY, Impressions, World, scrambled

BATCH_ROWS = 16_384
ORACLE_ROWS = 1_000_000
LISTENER_COLUMN = "listener"
TIME_COLUMN = "time"
ORACLE_COLUMN = "oracle_probability"
HIGHEST_MISSING = 0.8


@dataclass(frozen=True)
class SyntheticSource:
    """A music application's impressions, of any number: see the package's description.

    Any range of rows can be made by itself and is the same each time. Memory does not grow with
    the number of rows, users or songs.

    Attributes:
        rows: Number of impressions.
        seed: Everything random follows from it.
        users: Number of listeners.
        songs: Number of songs; eight an artist.
        days: Length of the log; the last day is the test part, the one before it validates.
        width: Embedding width of every field.
        missing: Share of all values that are missing, in the mean over fields and rows; none: as
            the causes in ``missing`` come, about 0.28. Rows, values, labels and true probabilities
            are the same at every share, and what is missing at one is missing at higher ones.
    """

    rows: int = 200_000
    seed: int = 1
    users: int = 5_000
    songs: int = 5_000
    days: int = 10
    width: int = 8
    missing: float | None = None

    def __post_init__(self) -> None:
        for name, least in (("seed", 0), ("users", 1), ("songs", 1), ("days", 3), ("width", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} is {getattr(self, name)}, must be at least {least}")
        if self.rows < self.days:
            raise ValueError(
                f"rows is {self.rows}, must be at least one for each of {self.days} days"
            )
        if self.missing is not None and not 0 <= self.missing <= HIGHEST_MISSING:
            raise ValueError(
                f"missing is {self.missing:g}, must be a share from 0 to {HIGHEST_MISSING:g}"
            )

    @property
    def spec(self) -> DatasetSpec:
        """The fields, the labels ``collect`` and ``like``, and a split by days."""
        return DatasetSpec(
            name="synthetic",
            fields=field_specs(self._views, self.width),
            labels=LABELS,
            split=TimeSplit(
                validation_from=FIRST_DAY + DAY * (self.days - 2),
                test_from=FIRST_DAY + DAY * (self.days - 1),
            ),
            user=LISTENER_COLUMN,
            time=TIME_COLUMN,
            oracle=ORACLE_COLUMN,
        )

    @property
    def total_rows(self) -> int | None:
        """The number of rows."""
        return self.rows

    def batches(self, bad_rows: BadRows) -> Iterator[pa.RecordBatch]:
        """All rows in the order of time; none is bad."""
        del bad_rows
        for start in range(0, self.rows, BATCH_ROWS):
            yield self.batch(start, min(start + BATCH_ROWS, self.rows))

    def batch(self, start: int, stop: int) -> pa.RecordBatch:
        """The rows from ``start`` up to ``stop``.

        Besides fields and labels: ``listener``, the user of the row, known even where ``user_id``
        is missing; ``time``, in seconds since 1970; ``oracle_probability``, the true probability
        of ``collect``, which is no field.
        """
        rows = self._world.impressions(np.arange(start, stop))
        columns: dict[str, pa.Array] = dict(self._fields(rows))
        for label in LABELS:
            columns[label] = pa.array(draw_label(self._world, rows, label))
        columns[LISTENER_COLUMN] = pa.array(scrambled(rows.user))
        columns[TIME_COLUMN] = pa.array(rows.time)
        columns[ORACLE_COLUMN] = pa.array(probability(rows, LABELS[0]))
        return pa.RecordBatch.from_pydict(columns)

    def bayes_auc(self, label: str = LABELS[0]) -> float:
        """The AUC on the test part of one who knows the true probabilities.

        No model can be expected to reach it: the fields show the factors through noise and holes.
        It is exact for the rows of the test part (for evenly spaced ones where there are more than
        a million), in expectation over their labels; the true probabilities' AUC on the labels
        that were drawn differs from it by the luck of the draw.

        Raises:
            ValueError: there is no such label.
        """
        if label not in LABELS:
            raise ValueError(f"unknown label {label!r}; the data set has {', '.join(LABELS)}")
        first = self._world.first_row_of(self.days - 1)
        stride = BATCH_ROWS * max(1, (self.rows - first) // ORACLE_ROWS)
        starts = range(first, self.rows, stride)
        best = BayesOptimalAUC()
        for start in starts:
            rows = self._world.impressions(np.arange(start, min(start + BATCH_ROWS, self.rows)))
            best.add(probability(rows, label))
        assert best.auc is not None, "each row may be a 1 and may be a 0"
        return best.auc

    @cached_property
    def _world(self) -> World:
        return World(self.seed, self.rows, self.users, self.songs, self.days)

    @cached_property
    def _views(self) -> tuple[View, ...]:
        return all_views(self._world)

    @cached_property
    def _holes(self) -> Holes:
        if self.missing is None:
            return Holes(self._world)
        return holes_of_rate(self._world, self._views, self.missing)

    def _fields(self, rows: Impressions) -> Iterator[tuple[str, pa.Array]]:
        blocks = self._holes.blocks(rows)
        keys = self._entity_keys(rows)
        for view in self._views:
            noise = keys[view.entity] + self._stream(f"noise {view.noise_stream}")
            chance = keys["row"] + self._stream(f"missing {view.name}")
            missing = self._holes.at_random(view, chance)
            missing |= blocks.get(view.block, False)
            values = view.values(self._world, rows, noise)
            yield view.name, pc.if_else(pa.array(missing), None, values)

    def _entity_keys(self, rows: Impressions) -> dict[Entity, Keys]:
        keys = self._world.keys
        return {
            "user": keys("user", rows.user),
            "user day": keys("user day", rows.user, rows.day),
            "song": keys("song", rows.song),
            "song day": keys("song day", rows.song, rows.day),
            "artist": keys("artist", rows.artist),
            "row": keys("row", rows.row),
        }

    def _stream(self, name: str) -> np.uint64:
        return np.uint64(stream_key(self.seed, name))

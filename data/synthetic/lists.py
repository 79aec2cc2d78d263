"""Fields of the synthetic set that hold several values: tags, favourites and recent songs.

Shapes: B rows, C choices, L places of a list.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from dropdrift.data import counter
from dropdrift.data.counter import Ints, Keys
from dropdrift.data.schema import FieldGroup
from dropdrift.data.source import FieldSpec
from dropdrift.data.synthetic.views import Cluster, View, named
from dropdrift.data.synthetic.world import TASTE, Impressions, World


@dataclass(frozen=True)
class Tags(Cluster):
    """One or more categories: the nearest of a ``Cluster``, in no order.

    Attributes:
        places: L, the most that a row has.
    """

    places: int

    def spec(self, group: FieldGroup, width: int) -> FieldSpec:
        """A multi-valued field."""
        return FieldSpec(
            self.name, "multi", "vocabulary", group=group, width=width, max_length=self.places
        )

    def values(self, world: World, rows: Impressions, key: Keys) -> pa.Array:
        """Lists of numbers of categories."""
        nearness = self.nearness(world, rows, key)
        nearest = np.argpartition(-nearness, self.places - 1, axis=1)[:, : self.places]
        return _lists(nearest, key, ())


@dataclass(frozen=True)
class LikedSongs(View):
    """One or more songs that the user's taste picked, or something about these songs.

    They are drawn from the same taste as the labels, not from the other rows of the set.

    Attributes:
        stream: fields of one stream are about the same songs, and have as many places.
        about: what is listed for each song: a number.
        places: L, the most that a row has.
        ordered: whether the field is a sequence.
        table: name of the table, where fields share one.
        names: text of each number; empty: the number.
        min_count: that of the table.
    """

    stream: str
    about: Callable[[World, Ints], Ints]
    places: int
    ordered: bool = False
    table: str = ""
    names: tuple[str, ...] = ()
    min_count: int = 1

    @property
    def noise_stream(self) -> str:
        """The stream."""
        return self.stream

    def spec(self, group: FieldGroup, width: int) -> FieldSpec:
        """A multi-valued field or a sequence."""
        return FieldSpec(
            self.name,
            "sequence" if self.ordered else "multi",
            "vocabulary",
            min_count=self.min_count,
            group=group,
            table=self.table,
            width=width,
            max_length=self.places,
        )

    def values(self, world: World, rows: Impressions, key: Keys) -> pa.Array:
        """Lists of numbers or names."""
        if self.stream not in rows.shared:
            rows.shared[self.stream] = self._songs(world, rows, key)
        return _lists(self.about(world, rows.shared[self.stream]), key, self.names)

    def _songs(self, world: World, rows: Impressions, key: Keys) -> Ints:
        """[B, L] songs: of every two drawn, the one whose genre is more to the user's taste."""
        drawn = np.arange(2 * self.places).reshape(1, 2, self.places)
        songs = world.draw_songs(counter.keys(0, key[:, None, None], drawn))
        liking = rows.block(TASTE) @ world.genre_centres.T
        scores = liking[np.arange(len(key))[:, None, None], world.genre(songs)]
        return np.where(scores[:, 0] >= scores[:, 1], songs[:, 0], songs[:, 1])


def _lists(values: Ints, key: Keys, names: tuple[str, ...]) -> pa.ListArray:
    """The first few of each row of ``values`` [B, L]: one to L of them."""
    places = values.shape[1]
    lengths = 1 + counter.integers(counter.keys(1, key), places)
    kept = values[np.arange(places) < lengths[:, None]]
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), named(kept, names))

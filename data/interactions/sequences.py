"""Every user's interactions in memory: one flat array, 12 bytes an interaction.

Shapes: U users, N interactions.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from dropdrift.data.columns import USER_COLUMN
from dropdrift.data.config import Order
from dropdrift.data.interactions.layout import (
    FILE_ORDER_COLUMN,
    SEQUENCE_COLUMN,
    TIMES_COLUMN,
    USERS_FILE,
)
from dropdrift.data.parquet_file import reading_parquet
from dropdrift.data.ragged import end_to_end
from dropdrift.data.schema import Schema

ADVICE = "run 'dropdrift prepare' again"

# Some lists of items: where each begins and ends, and all of them.
Flat = tuple[NDArray[np.int64], NDArray[np.int32]]

_KINDS = {
    USER_COLUMN: "string",
    SEQUENCE_COLUMN: "list<int32>",
    TIMES_COLUMN: "list<int64>",
    FILE_ORDER_COLUMN: "list<int32>",
}


@dataclass(frozen=True, eq=False)
class Sequences:
    """The interactions of all users, one user after the other.

    Attributes:
        users: raw ids, text [U].
        offsets: int64 [U + 1]; user u has the interactions ``offsets[u]`` to ``offsets[u + 1]``.
        items: int32 [N], rows of the catalogue, in order.
        times: int64 [N], when, in the unit of the data; 0 in data without times.
        left_out: number of users with too few interactions.
    """

    users: pa.Array
    offsets: NDArray[np.int64]
    items: NDArray[np.int32]
    times: NDArray[np.int64]
    left_out: int = 0

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Number of interactions of each user, int64 [U]."""
        return np.diff(self.offsets)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @staticmethod
    def load(
        directory: Path, schema: Schema, order: Order = "time", min_interactions: int = 1
    ) -> Sequences:
        """The users of a prepared data set with at least ``min_interactions`` interactions.

        Args:
            directory: made by 'dropdrift prepare ... --task matching'.
            schema: its schema.
            order: of each user's interactions.
            min_interactions: users with fewer are left out and counted.

        Raises:
            ValueError: the data set holds no interactions, a file is damaged, or no user has
                enough interactions.
        """
        check_kind(directory, schema)
        path = directory / USERS_FILE
        table = _read(path, order)
        sequences = _sequences(table, path)
        if order == "file":
            sequences = sequences._reordered(_flat(table, FILE_ORDER_COLUMN, path), path)
        return sequences._at_least(min_interactions, path)

    def take(self, starts: NDArray[np.int64], stops: NDArray[np.int64]) -> Flat:
        """The items from ``starts`` to ``stops`` [R], positions in ``items``, one after another.

        Returns:
            offsets int64 [R + 1] and items int32.
        """
        offsets, positions = end_to_end(starts, stops)
        return offsets, self.items[positions]

    def _reordered(self, places: NDArray[np.int64], path: Path) -> Sequences:
        """The same users, their interactions taken at ``places`` [N] within each user."""
        lengths = self.lengths
        absolute = places + np.repeat(self.offsets[:-1], lengths)
        inside = (places >= 0) & (places < np.repeat(lengths, lengths))
        if not inside.all() or (np.bincount(absolute, minlength=len(places)) != 1).any():
            raise ValueError(
                f"{path}: {FILE_ORDER_COLUMN!r} is no permutation of a user's interactions: "
                f"{ADVICE}"
            )
        return Sequences(self.users, self.offsets, self.items[absolute], self.times[absolute])

    def _at_least(self, least: int, path: Path) -> Sequences:
        lengths = self.lengths
        kept = np.flatnonzero(lengths >= least)
        if not len(kept):
            raise ValueError(
                f"{path}: no user has {least} interactions, the most are "
                f"{lengths.max(initial=0)}: set data.sequence.min_interactions to fewer"
            )
        if len(kept) == len(self):
            return self
        within = np.repeat(lengths >= least, lengths)
        return Sequences(
            self.users.take(pa.array(kept)),
            np.concatenate([[0], np.cumsum(lengths[kept])]),
            self.items[within],
            self.times[within],
            left_out=len(self) - len(kept),
        )


def check_kind(directory: Path, schema: Schema) -> None:
    """ValueError unless the data set holds interactions."""
    if schema.kind != "interactions":
        raise ValueError(f"{directory} holds {schema.kind}: prepare it with --task matching")


def read_columns(path: Path, kinds: dict[str, str]) -> pa.Table:
    """The columns ``kinds`` (name to Arrow type) of a file of the data set.

    Raises:
        ValueError: the file is not there or damaged, or a column is absent or of another type.
    """
    if not path.is_file():
        raise ValueError(f"{path} does not exist: {ADVICE}")
    with reading_parquet(path, f"; {ADVICE}"):
        found = pq.read_schema(path)
    for name, kind in kinds.items():
        index = found.get_field_index(name)
        if index < 0:
            raise ValueError(f"{path}: no column {name!r}: {ADVICE}")
        here = found.field(index).type
        text = f"list<{here.value_type}>" if pa.types.is_list(here) else str(here)
        if text != kind:
            raise ValueError(f"{path}: column {name!r} is {text}, must be {kind}: {ADVICE}")
    with reading_parquet(path, f"; {ADVICE}"):
        return pq.read_table(path, columns=list(kinds), page_checksum_verification=True)


def _read(path: Path, order: Order) -> pa.Table:
    kinds = dict(_KINDS)
    if order != "file":
        del kinds[FILE_ORDER_COLUMN]
    table = read_columns(path, kinds)
    lengths = pc.list_value_length(table.column(SEQUENCE_COLUMN))
    for name in kinds:
        if table.column(name).null_count:
            raise ValueError(f"{path}: column {name!r} has a null: {ADVICE}")
        if name not in (USER_COLUMN, SEQUENCE_COLUMN):
            same = pc.equal(pc.list_value_length(table.column(name)), lengths)
            if not pc.all(same, min_count=0).as_py():
                user = table.column(USER_COLUMN)[pc.index(same, False).as_py()]
                raise ValueError(
                    f"{path}: user {user} has not as many {name!r} as {SEQUENCE_COLUMN!r}: {ADVICE}"
                )
    return table


def _sequences(table: pa.Table, path: Path) -> Sequences:
    lengths = pc.list_value_length(table.column(SEQUENCE_COLUMN)).to_numpy()
    items = _flat(table, SEQUENCE_COLUMN, path).astype(np.int32, copy=False)
    if items.min(initial=0) < 0:
        raise ValueError(
            f"{path}: {SEQUENCE_COLUMN!r} holds {items.min()}, a negative row: {ADVICE}"
        )
    return Sequences(
        users=table.column(USER_COLUMN).combine_chunks(),
        offsets=np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]),
        items=items,
        times=_flat(table, TIMES_COLUMN, path),
    )


def _flat(table: pa.Table, name: str, path: Path) -> NDArray[np.int64]:
    """All values of a list column, in order."""
    values = pc.list_flatten(table.column(name))
    if values.null_count:
        raise ValueError(f"{path}: column {name!r} holds a list with a null in it: {ADVICE}")
    flat: NDArray[np.int64] = values.to_numpy()
    return flat

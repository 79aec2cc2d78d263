"""Decoded rows in numpy, and the step from them to a batch.

Everything works on whole columns: the ids of all single-valued fields are one matrix, so that a
batch of any number of fields takes the same handful of numpy calls.

Shapes: S single-valued fields, M bag fields, F = S + M, R rows, L labels, V ids in all.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torchrec.sparse.jagged_tensor import KeyedJaggedTensor

from dropdrift.data.batch import Batch
from dropdrift.data.columns import (
    MISSING,
    bag_fields,
    bag_ids,
    check_columns,
    label_values,
    single_fields,
    single_ids,
    user_codes,
)
from dropdrift.data.loading.bags import Bags
from dropdrift.data.schema import Schema


@dataclass(frozen=True, eq=False)
class ColumnBlock:
    """Some tens of thousands of rows, decoded.

    Attributes:
        keys: names of the single-valued fields, then of the others, both in schema order.
        ids: int32 [S, R], -1 where the field is missing.
        bags: the M multi-valued fields and sequences.
        labels: float32 [R, L], NaN where a label is missing.
        users: int64 [R].
    """

    keys: tuple[str, ...]
    ids: NDArray[np.int32]
    bags: tuple[Bags, ...]
    labels: NDArray[np.float32]
    users: NDArray[np.int64]

    @staticmethod
    def from_table(
        table: pa.Table, schema: Schema, origin: Path, *, require_targets: bool = True
    ) -> ColumnBlock:
        """The rows of a prepared table, checked against the schema.

        Args:
            table: columns as in a part file: encoded ids, labels, user.
            schema: of the data set the ids belong to.
            origin: the file it comes from, to name in an error.
            require_targets: off where rows are only scored: the columns of labels and user may
                then be absent, and stand for missing labels and user 0.

        Raises:
            ValueError: a column is absent or of another type, an id is not a row of its table, or a
                label is neither 0 nor 1.
        """
        check_columns(table.schema, schema, origin, require_targets=require_targets)
        return ColumnBlock(
            keys=_keys(schema),
            ids=single_ids(table, schema, origin),
            bags=tuple(
                Bags.from_lengths(*bag_ids(table, field, schema, origin))
                for field in bag_fields(schema)
            ),
            labels=label_values(table, schema, origin),
            users=user_codes(table),
        )

    @staticmethod
    def empty(schema: Schema) -> ColumnBlock:
        """No rows."""
        no_bags = Bags(np.zeros(1, dtype=np.int64), np.zeros(0, dtype=np.int32))
        return ColumnBlock(
            keys=_keys(schema),
            ids=np.zeros((len(single_fields(schema)), 0), dtype=np.int32),
            bags=(no_bags,) * len(bag_fields(schema)),
            labels=np.zeros((0, len(schema.labels)), dtype=np.float32),
            users=np.zeros(0, dtype=np.int64),
        )

    def __len__(self) -> int:
        return len(self.users)

    def slice(self, start: int, stop: int) -> ColumnBlock:
        """Rows ``start`` to ``stop``, as far as there are any, without a copy."""
        start, stop = min(start, len(self)), min(stop, len(self))
        return ColumnBlock(
            self.keys,
            self.ids[:, start:stop],
            tuple(bag.slice(start, stop) for bag in self.bags),
            self.labels[start:stop],
            self.users[start:stop],
        )

    def take(self, rows: NDArray[np.int64]) -> ColumnBlock:
        """The rows at the positions ``rows``, in that order; costs nothing for the others."""
        return ColumnBlock(
            self.keys,
            self.ids[:, rows],
            tuple(bag.take(rows) for bag in self.bags),
            self.labels[rows],
            self.users[rows],
        )

    @staticmethod
    def concatenate(blocks: Sequence[ColumnBlock]) -> ColumnBlock:
        """The rows of all ``blocks``, at least one, one after the other."""
        if len(blocks) == 1:
            return blocks[0]
        return ColumnBlock(
            blocks[0].keys,
            np.concatenate([block.ids for block in blocks], axis=1),
            _concatenated_bags(blocks),
            np.concatenate([block.labels for block in blocks]),
            np.concatenate([block.users for block in blocks]),
        )

    @staticmethod
    def gather(blocks: Sequence[ColumnBlock], rows: NDArray[np.int64]) -> ColumnBlock:
        """The rows at the positions ``rows`` of the concatenation, in that order.

        Goes field by field, so that the concatenation itself never takes up memory.
        """
        ids = np.empty((len(blocks[0].ids), len(rows)), dtype=np.int32)
        for field, out in enumerate(ids):
            column = np.concatenate([block.ids[field] for block in blocks])
            # Only with "clip" does numpy write into `out` without a buffer; no row is clipped.
            np.take(column, rows, out=out, mode="clip")
        return ColumnBlock(
            blocks[0].keys,
            ids,
            tuple(bag.take(rows) for bag in _concatenated_bags(blocks)),
            np.concatenate([block.labels for block in blocks])[rows],
            np.concatenate([block.users for block in blocks])[rows],
        )

    def batch(self, *, step: int = 0, first_row: int = 0, rows: int = 0) -> Batch:
        """All rows as one batch, filled up to ``rows`` rows where that is more.

        Filling rows have no features, NaN labels and user 0. ``step`` and ``first_row`` are
        described at :class:`~dropdrift.data.batch.Batch`.
        """
        size, rows = len(self), max(len(self), rows)
        labels = np.full((rows, self.labels.shape[1]), np.nan, dtype=np.float32)
        labels[:size] = self.labels
        users = np.zeros(rows, dtype=np.int64)
        users[:size] = self.users
        return Batch(
            features=self._features(rows),
            labels=torch.from_numpy(labels),
            users=torch.from_numpy(users),
            first_row=first_row,
            step=step,
            size=size,
        )

    def batches(self, batch_size: int) -> Iterator[Batch]:
        """All rows in order, in batches of ``batch_size`` rows; the last one may be smaller."""
        for step, start in enumerate(range(0, len(self), batch_size)):
            yield self.slice(start, start + batch_size).batch(step=step)

    def _features(self, rows: int) -> KeyedJaggedTensor:
        """The ids, key by key: int64 values [V] and int32 lengths [F * rows]."""
        single, size = self.ids.shape
        present = self.ids != MISSING
        lengths = np.zeros((len(self.keys), rows), dtype=np.int32)
        lengths[:single, :size] = present
        for key, bag in enumerate(self.bags, start=single):
            lengths[key, :size] = bag.lengths
        # Positions are quicker to take by than the mask itself.
        ids = self.ids.reshape(-1).take(np.flatnonzero(present))
        values = np.concatenate([ids, *(bag.ids for bag in self.bags)], dtype=np.int64)
        return KeyedJaggedTensor(
            keys=list(self.keys),
            values=torch.from_numpy(values),
            lengths=torch.from_numpy(lengths.reshape(-1)),
            stride=rows,
            # Known here for next to nothing; on a GPU it would be a synchronisation.
            length_per_key=lengths.sum(axis=1).tolist(),
        )


def cut(blocks: Iterable[ColumnBlock], rows: int) -> Iterator[ColumnBlock]:
    """The rows of ``blocks``, in order, in blocks of ``rows`` rows; the last one may be smaller."""
    held: list[ColumnBlock] = []
    wanted = rows
    for block in blocks:
        start = 0
        while start < len(block):
            held.append(block.slice(start, start + wanted))
            start += len(held[-1])
            wanted -= len(held[-1])
            if not wanted:
                yield ColumnBlock.concatenate(held)
                held, wanted = [], rows
    if held:
        yield ColumnBlock.concatenate(held)


def _keys(schema: Schema) -> tuple[str, ...]:
    return tuple(field.name for field in (*single_fields(schema), *bag_fields(schema)))


def _concatenated_bags(blocks: Sequence[ColumnBlock]) -> tuple[Bags, ...]:
    return tuple(Bags.concatenate(bags) for bags in zip(*(b.bags for b in blocks), strict=True))

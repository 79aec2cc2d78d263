"""Parquet in, batches out: shuffled, cut by rank, and able to go on from a saved position.

The order of an epoch, for the training part:

1. the row groups are shuffled, which gives a sequence of all rows;
2. the sequence is cut into ``lanes`` equal stretches; every global batch of b rows takes b / lanes
   rows of each, in lane order;
3. within its lane, every ``shuffle_rows`` rows are shuffled.

Rank r of R serves the lanes r * lanes / R to (r + 1) * lanes / R - 1. So the global batches follow
from the seed, ``lanes`` and ``batch_size`` alone and not from the number of ranks. Evaluation
shuffles nothing; the rest is the same.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Generator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dropdrift.data.batch import Batch
from dropdrift.data.config import DataConfig
from dropdrift.data.loading.block import ColumnBlock, cut
from dropdrift.data.loading.part import Part, RowSequence
from dropdrift.data.loading.prefetch import read_ahead
from dropdrift.data.schema import Schema


@dataclass(frozen=True)
class Cursor:
    """A position in the stream of batches: all that must be saved to go on from there.

    Attributes:
        epoch: passes over the part before this one.
        batch: batches of this epoch that are done.
        step: optimizer steps taken, over all epochs.
    """

    epoch: int = 0
    batch: int = 0
    step: int = 0

    def after(self, steps_per_epoch: int) -> Cursor:
        """The position one batch later, in the next epoch if this one is done."""
        if self.batch + 1 < steps_per_epoch:
            return Cursor(self.epoch, self.batch + 1, self.step + 1)
        return Cursor(self.epoch + 1, 0, self.step + 1)


class Loader:
    """The batches of one part for one rank.

    Training shuffles, and leaves out the rows that do not fill a global batch, other ones in every
    epoch. Evaluation keeps the order of the data, gives each rank one stretch of it whatever the
    lanes, and fills the last batches, so that every row comes once and all ranks get the same
    number of batches of the same size.

    With ``prefetch`` in the configuration, the next group of rows to shuffle is read in the
    background while one is being used up: two such groups a lane are in memory then.

    Args:
        directory: the prepared data set.
        part: ``train``, ``validation`` or ``test``.
        schema: its schema.
        config: batch size, lanes and shuffling.
        rank: which share of every global batch to give.
        world_size: number of ranks.
        training: whether to shuffle.
        seed: of the shuffling.

    Attributes:
        steps_per_epoch: number of batches of an epoch.

    Raises:
        ValueError: the part or one of its files is wrong (see ``loading.part``), or too small
            for one global batch, or batch size, lanes and ranks do not divide.
    """

    def __init__(
        self,
        directory: Path,
        part: str,
        schema: Schema,
        config: DataConfig,
        *,
        rank: int = 0,
        world_size: int = 1,
        training: bool,
        seed: int = 0,
    ) -> None:
        if not training:
            config = dataclasses.replace(config, lanes=world_size)
        self._lanes = config.lanes_on(world_size)
        self._part = Part(directory, part, schema)
        self._rows = self._part.rows
        self._empty = ColumnBlock.empty(schema)
        self._config = config
        self._rank = rank
        self._world_size = world_size
        self._training = training
        self._seed = seed
        whole, rest = divmod(self._rows, config.batch_size)
        if training and not whole:
            raise ValueError(
                f"{self._part.path} holds {self._rows} rows, fewer than one global batch: "
                f"data.batch_size is {config.batch_size}"
            )
        self.steps_per_epoch = whole if training else whole + bool(rest)

    def check_label(self, label: str) -> None:
        """ValueError unless the part has rows of both classes of ``label``."""
        self._part.check_label(label)

    def batches(self, cursor: Cursor) -> Generator[Batch, None, None]:
        """The batches of the cursor's epoch from the cursor on.

        Only the row groups that are needed are read. Close the generator to stop early.

        Raises:
            ValueError: the cursor lies behind the end of the epoch, or a file is damaged.
        """
        if not 0 <= cursor.batch <= self.steps_per_epoch:
            raise ValueError(
                f"cannot go on from batch {cursor.batch} of {self._part.path}, which has "
                f"{self.steps_per_epoch}: the data set or data.batch_size is another than before"
            )
        batch_rows = self._config.batch_size // self._world_size
        lane_rows = self._config.batch_size // self._lanes
        per_rank = self._lanes // self._world_size
        with ExitStack() as stack:
            streams = []
            for lane in range(self._rank * per_rank, (self._rank + 1) * per_rank):
                groups = self._shuffle_groups(cursor.epoch, lane, cursor.batch * lane_rows)
                ahead = read_ahead(groups, min(1, self._config.prefetch))
                streams.append(cut(stack.enter_context(closing(ahead)), lane_rows))
            for done in range(self.steps_per_epoch - cursor.batch):
                block = ColumnBlock.concatenate([next(stream, self._empty) for stream in streams])
                yield block.batch(
                    step=cursor.step + done,
                    first_row=self._first_row(cursor.batch + done),
                    rows=batch_rows,
                )

    def _first_row(self, batch: int) -> int:
        """Position of this rank's first row, in the global batch or, evaluating, in the part."""
        batch_rows = self._config.batch_size // self._world_size
        if self._training:
            return self._rank * batch_rows
        return (self._rank * self.steps_per_epoch + batch) * batch_rows

    def _shuffle_groups(
        self, epoch: int, lane: int, skip: int
    ) -> Generator[ColumnBlock, None, None]:
        """The rows of a lane without its first ``skip``, in groups that are shuffled together."""
        sequence = RowSequence(self._part, self._row_group_order(epoch))
        start, stop = self._lane_bounds(lane)
        size = self._config.shuffle_rows
        for group in range(skip // size, -(-(stop - start) // size)):
            first = start + group * size
            # No name is kept for the pieces: they would take up memory until the next group.
            block = self._shuffled(
                sequence.read(first, min(first + size, stop)), epoch, lane, group
            )
            yield block.slice(max(skip - group * size, 0), size)

    def _shuffled(
        self, pieces: list[ColumnBlock], epoch: int, lane: int, group: int
    ) -> ColumnBlock:
        if not self._training:
            return ColumnBlock.concatenate(pieces)
        generator = np.random.default_rng([self._seed, epoch, 1, lane, group])
        return ColumnBlock.gather(pieces, generator.permutation(sum(map(len, pieces))))

    def _row_group_order(self, epoch: int) -> NDArray[np.int64]:
        count = len(self._part.row_groups)
        if not self._training:
            return np.arange(count)
        return np.random.default_rng([self._seed, epoch, 0]).permutation(count)

    def _lane_bounds(self, lane: int) -> tuple[int, int]:
        """Where a lane begins and ends in the sequence of all rows."""
        if self._training:
            return self._rows * lane // self._lanes, self._rows * (lane + 1) // self._lanes
        # All lanes but the last ones are full, so that filling rows only ever come after all
        # real ones of a global batch, on any number of ranks.
        rows = self.steps_per_epoch * (self._config.batch_size // self._lanes)
        return min(lane * rows, self._rows), min((lane + 1) * rows, self._rows)

"""Sequences in, batches out: shuffled, cut by rank, and able to go on from a saved position.

Training row i of an epoch is row ``permutation(i)`` of ``training_rows``; global batch g of b rows
is rows g * b to (g + 1) * b of that order, of which rank r of R has the r-th of R equal slices. All
of it is looked up from the seed and the epoch: nothing is held but the interactions.
"""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from dropdrift.data.batch import SequenceBatch
from dropdrift.data.config import DataConfig, check_divides
from dropdrift.data.counter import keys, stream_key
from dropdrift.data.interactions.candidates import AllItems, Candidates, SampledItems
from dropdrift.data.interactions.catalogue import Catalogue
from dropdrift.data.interactions.layout import USERS_FILE
from dropdrift.data.interactions.protocols import (
    PARTS,
    Targets,
    TrainingUsers,
    evaluation_targets,
    training_users,
)
from dropdrift.data.interactions.random_order import permuted
from dropdrift.data.interactions.sequences import Flat, Sequences, check_kind
from dropdrift.data.interactions.training_rows import Rows, TrainingRows, training_rows
from dropdrift.data.loading.loader import Cursor
from dropdrift.data.schema import Schema

Ints = NDArray[np.int64]


class SequenceLoader:
    """The batches of one part for one rank.

    Training shuffles, and leaves out the rows that do not fill a global batch, other ones in every
    epoch. Evaluation keeps the order of the users, gives each rank one stretch of them, and fills
    the last batches with empty rows, so that every row comes once and all ranks get the same number
    of batches of the same size. Its rows have one target, at the last position, and its batches
    always hold the whole catalogue, so that ``targets`` are items.

    Of ``config``, lanes and shuffle_rows have no effect: all rows are shuffled together.

    Args:
        directory: the prepared data set.
        part: ``train``, ``validation`` or ``test``.
        schema: its schema.
        config: batch size, and the protocol, windows and negatives of ``config.sequence``.
        rank: which share of every global batch to give.
        world_size: number of ranks.
        training: whether to make training rows and shuffle; only of ``train``.
        seed: of the shuffling, the cutting of sequences and the negatives.

    Attributes:
        steps_per_epoch: number of batches of an epoch.
        rows: number of rows of an epoch.
        catalogue: all items.
        sequences: all users that have enough interactions.

    Raises:
        ValueError: the part is unknown, the data set holds no interactions, one of its files is
            damaged, there are too few users, interactions or rows, or ranks do not divide the batch
            size.
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
        _check_part(part, training=training)
        check_kind(directory, schema)
        check_divides("data.batch_size", config.batch_size, world_size)
        sequence = config.sequence
        self.catalogue = Catalogue.load(directory, schema)
        self.sequences = Sequences.load(
            directory, schema, sequence.order, sequence.min_interactions
        )
        self.catalogue.check(self.sequences, directory)
        self._directory = directory
        self._part = part
        self._config = config
        self._rank = rank
        self._world_size = world_size
        self._seed = seed
        self._batch_rows = config.batch_size // world_size
        self._training: TrainingRows | None = None
        self._candidates: Candidates
        if training:
            self._prepare_training(training_users(self.sequences, sequence))
        else:
            self._targets = evaluation_targets(self.sequences, part, sequence)
            self._candidates = AllItems(self.catalogue)
            self.rows = len(self._targets)
            self.steps_per_epoch = -(-self.rows // config.batch_size)
        if not self.rows:
            raise ValueError(
                f"{directory / USERS_FILE}: no user has enough interactions for part {part!r} of "
                f"data.sequence.protocol = {sequence.protocol!r}, which keeps their last ones for "
                "validation and test: it needs longer sequences"
            )

    def batches(self, cursor: Cursor) -> Generator[SequenceBatch, None, None]:
        """The batches of the cursor's epoch from the cursor on.

        Raises:
            ValueError: the cursor lies behind the end of the epoch.
        """
        if not 0 <= cursor.batch <= self.steps_per_epoch:
            raise ValueError(
                f"cannot go on from batch {cursor.batch} of part {self._part!r} of "
                f"{self._directory}, which has {self.steps_per_epoch}: the data set, "
                "data.batch_size or data.sequence is another than before"
            )
        for done in range(self.steps_per_epoch - cursor.batch):
            batch, step = cursor.batch + done, cursor.step + done
            if self._training is None:
                yield self._evaluation_batch(batch, step)
            else:
                yield self._training_batch(self._training, cursor.epoch, batch, step)

    @property
    def catalogue_rows(self) -> int:
        """Rows of every batch's catalogue, K."""
        return self._candidates.rows

    @property
    def evaluated(self) -> Targets:
        """Users and target positions of all rows of an evaluation, in order."""
        assert self._training is None
        return self._targets

    @property
    def users(self) -> Ints:
        """The user of each row of an evaluation, as positions in ``sequences.users``, [rows]."""
        return self.evaluated.users

    def raw_users(self, first_row: int, size: int) -> list[str]:
        """The raw ids of the users of ``size`` rows of an evaluation from ``first_row`` on."""
        users = self.users[first_row : first_row + size]
        raw: list[str] = self.sequences.users.take(users).to_pylist()
        return raw

    def seen(self, first_row: int, size: int) -> Flat:
        """All items that the users of ``size`` rows of an evaluation met before their targets.

        Args:
            first_row: of a batch: its ``first_row``.
            size: of a batch: its ``size``.

        Returns:
            offsets int64 [size + 1] and items int32, in order and as often as they were met: row i
            has ``items[offsets[i]:offsets[i + 1]]``.
        """
        rows = slice(first_row, first_row + size)
        return self.sequences.take(self.evaluated.starts[rows], self.evaluated.positions[rows])

    def _prepare_training(self, users: TrainingUsers) -> None:
        config, sequence = self._config, self._config.sequence
        self._training = training_rows(users, sequence, self._seed)
        self._order = stream_key(self._seed, "order of rows")
        self.rows = len(self._training)
        self.steps_per_epoch = self.rows // config.batch_size
        if 0 < self.rows < config.batch_size:
            raise ValueError(
                f"{self._directory} has {self.rows} training rows, fewer than one global batch: "
                f"data.batch_size is {config.batch_size}"
            )
        if sequence.negatives:
            _, items = self.sequences.take(users.starts, users.stops)
            self._candidates = SampledItems(
                self.catalogue,
                np.bincount(items, minlength=len(self.catalogue)),
                sampled=sequence.negatives,
                rows=sequence.catalogue_rows(self._batch_rows, len(self.catalogue)),
                seed=self._seed,
            )
        else:
            self._candidates = AllItems(self.catalogue)

    def _training_batch(
        self, training: TrainingRows, epoch: int, batch: int, step: int
    ) -> SequenceBatch:
        size = self._config.batch_size
        place = np.arange(batch * size, (batch + 1) * size)
        numbers = permuted(place, self.rows, keys(self._order, epoch))
        rows = training.rows(numbers, epoch)
        every = training.every_position
        targets = int((rows.stops - rows.starts).sum()) if every else size
        first = self._rank * self._batch_rows
        own = rows.slice(first, first + self._batch_rows)
        return self._batch(own, training.length, every, targets, first, step)

    def _evaluation_batch(self, batch: int, step: int) -> SequenceBatch:
        firsts = (np.arange(self._world_size) * self.steps_per_epoch + batch) * self._batch_rows
        targets = int(np.clip(self.rows - firsts, 0, self._batch_rows).sum())
        first, window = int(firsts[self._rank]), self._config.sequence.window
        rows = slice(first, first + self._batch_rows)
        stops = self._targets.positions[rows]
        own = Rows(np.maximum(self._targets.starts[rows], stops - window), stops)
        return self._batch(own, window, False, targets, first, step)

    def _batch(
        self, rows: Rows, length: int, every: bool, targets: int, first_row: int, step: int
    ) -> SequenceBatch:
        """The batch of this rank's ``rows``; ``targets`` are those of all ranks."""
        size = len(rows.stops)
        items = np.full((self._batch_rows, length), -1, dtype=np.int64)
        times = np.zeros_like(items)
        following = np.full_like(items, -1)
        places = rows.stops[:, None] + np.arange(-length, 0)
        there = places >= rows.starts[:, None]
        found = places[there]
        items[:size][there] = self.sequences.items[found]
        times[:size][there] = self.sequences.times[found]
        if every:
            following[:size][there] = self.sequences.items[found + 1]
        else:
            following[:size, -1] = self.sequences.items[rows.stops]
        chosen = self._candidates.choose(items, following, step=step)
        return SequenceBatch(
            catalogue=chosen.features,
            items=torch.from_numpy(chosen.arrays[0]),
            times=torch.from_numpy(times),
            targets=torch.from_numpy(chosen.arrays[1]),
            target_share=targets / self._world_size,
            negatives=chosen.negatives,
            log_expected=chosen.log_expected,
            first_row=first_row,
            step=step,
            size=size,
        )


def _check_part(part: str, *, training: bool) -> None:
    if part not in PARTS:
        raise ValueError(f"unknown part {part!r}: choose one of {', '.join(PARTS)}")
    if training and part != "train":
        raise ValueError(f"part {part!r} is for evaluation: train on part 'train'")

"""The batches: what the loaders make and the models read.

Shapes of :class:`Batch`: B rows, N fields, L labels. Shapes of :class:`SequenceBatch`: B rows, L
positions, K items.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import torch
from torch import Tensor
from torchrec.sparse.jagged_tensor import KeyedJaggedTensor
from torchrec.streamable import Pipelineable


@dataclass
class Batch(Pipelineable):
    """One rank's part of a global batch.

    Attributes:
        features: one key per field; a missing feature is a zero-length bag, and nothing else marks
            it. The order of the keys is the loader's own: select by name.
        labels: float32 [B, L], 0 or 1; NaN where a label is missing.
        users: int64 [B], a stable code of each row's user (0 in a data set without users).
        first_row: position of the first row in the global batch or, evaluating, in the part: what
            a drop mask is keyed by, so that it does not depend on the number of ranks.
        step: optimizer steps taken before this batch, the other half of that key.
        size: number of real rows; the rows after it only fill the batch, have no features and no
            labels, and must not count.
    """

    features: KeyedJaggedTensor
    labels: Tensor
    users: Tensor
    first_row: int
    step: int
    size: int

    @property
    def rows(self) -> int:
        """Number of rows, filling included."""
        return self.labels.shape[0]

    def to(self, device: torch.device, non_blocking: bool = False) -> Batch:
        """The same batch on ``device``."""
        return Batch(
            features=self.features.to(device=device, non_blocking=non_blocking),
            labels=self.labels.to(device=device, non_blocking=non_blocking),
            users=self.users.to(device=device, non_blocking=non_blocking),
            first_row=self.first_row,
            step=self.step,
            size=self.size,
        )

    def record_stream(self, stream: torch.Stream) -> None:
        """Keep the memory until ``stream`` has used it (called by the training pipeline)."""
        self.features.record_stream(stream)
        self.labels.record_stream(stream)
        self.users.record_stream(stream)

    def pin_memory(self) -> Batch:
        """The same batch in page-locked memory, for asynchronous copies to a GPU."""
        return Batch(
            features=self.features.pin_memory(),
            labels=self.labels.pin_memory(),
            users=self.users.pin_memory(),
            first_row=self.first_row,
            step=self.step,
            size=self.size,
        )


@dataclass
class SequenceBatch(Pipelineable):
    """One rank's part of a global batch of interaction sequences.

    Sequences refer to items by their row in ``catalogue``, so that each item is looked up once
    however often it occurs. Sequences end at the last position: shorter ones are padded on the
    left.

    Attributes:
        catalogue: one key per field of the item, K rows: all items, or those that the batch needs,
            filled up with rows without features to the same K on every rank.
        items: int64 [B, L], rows of ``catalogue``, oldest first; -1 where there is none.
        times: int64 [B, L], when, in the unit of the data (0 where there is no item or no time).
        targets: int64 [B, L], the row of the item that came next; -1 where nothing is learnt.
        target_share: number of targets in the global batch divided by the number of ranks. Losses
            are sums over this rank's targets divided by it, so that their mean over ranks is the
            mean over the global batch.
        negatives: how many of the first rows of ``catalogue`` every target competes with; K with
            the full softmax.
        log_expected: float32 [K], logarithm of how often each of those rows is expected among the
            sampled negatives (the Q of logQ correction); zeros with the full softmax.
        first_row: position of the first row in the global batch or, evaluating, in the part: what
            noise is keyed by, so that it does not depend on the number of ranks.
        step: optimizer steps taken before this batch, the other half of that key.
        size: number of real rows; the rows after it only fill the batch and are empty.
    """

    catalogue: KeyedJaggedTensor
    items: Tensor
    times: Tensor
    targets: Tensor
    target_share: float
    negatives: int
    log_expected: Tensor
    first_row: int
    step: int
    size: int

    @property
    def rows(self) -> int:
        """Number of rows, filling included."""
        return self.items.shape[0]

    def to(self, device: torch.device, non_blocking: bool = False) -> SequenceBatch:
        """The same batch on ``device``."""
        return dataclasses.replace(
            self,
            catalogue=self.catalogue.to(device=device, non_blocking=non_blocking),
            items=self.items.to(device=device, non_blocking=non_blocking),
            times=self.times.to(device=device, non_blocking=non_blocking),
            targets=self.targets.to(device=device, non_blocking=non_blocking),
            log_expected=self.log_expected.to(device=device, non_blocking=non_blocking),
        )

    def record_stream(self, stream: torch.Stream) -> None:
        """Keep the memory until ``stream`` has used it (called by the training pipeline)."""
        self.catalogue.record_stream(stream)
        for tensor in (self.items, self.times, self.targets, self.log_expected):
            tensor.record_stream(stream)

    def pin_memory(self) -> SequenceBatch:
        """The same batch in page-locked memory, for asynchronous copies to a GPU."""
        return dataclasses.replace(
            self,
            catalogue=self.catalogue.pin_memory(),
            items=self.items.pin_memory(),
            times=self.times.pin_memory(),
            targets=self.targets.pin_memory(),
            log_expected=self.log_expected.pin_memory(),
        )

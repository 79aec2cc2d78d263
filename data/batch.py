"""The batch: what the loader makes and every model reads.

Shapes: B rows, N fields, L labels.
"""

from __future__ import annotations

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

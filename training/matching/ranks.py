"""Ranks of all targets of an evaluation part by a model, over any number of ranks.

Shapes: B rows of a batch, R rows of the part, M items of the catalogue.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchrec.distributed import DistributedModelParallel

from dropdrift.data.batch import SequenceBatch
from dropdrift.data.interactions.loader import SequenceLoader
from dropdrift.data.loading.loader import Cursor
from dropdrift.training.build import matching_model
from dropdrift.training.distributed import Ranks
from dropdrift.training.gather import gather_rows_to
from dropdrift.training.matching.catalogue import catalogue_vectors
from dropdrift.training.matching.target_ranks import PriorScores, Seen, target_ranks

# The prior scores of the rows of a batch.
Prior = Callable[[SequenceBatch], PriorScores]


@dataclass(frozen=True)
class Ranked:
    """Rows of all ranks in the order of the part: R rows.

    Attributes:
        targets: rows of the catalogue, int64 [R].
        among_all: ranks among all items, int64 [R].
        among_unseen: ranks among the items that the user had not had before, int64 [R].
    """

    targets: NDArray[np.int64]
    among_all: NDArray[np.int64]
    among_unseen: NDArray[np.int64]


@torch.no_grad()
def rank_batches(
    sharded: DistributedModelParallel,
    loader: SequenceLoader,
    ranks: Ranks,
    noise_seed: int,
    prior: Prior | None = None,
) -> Ranked | None:
    """Rank every target of an evaluation part. All ranks must call.

    Args:
        sharded: a matching model.
        loader: of this rank, not a training one.
        ranks: this process among all.
        noise_seed: of whatever noise the model draws; it is keyed by row, so that the same seed
            gives the same ranks whatever the batches and the number of ranks.
        prior: scores to add to the model's.

    Returns:
        The rows of all ranks on the first rank, None on the others.

    Raises:
        ValueError: a score is not finite.
    """
    model = matching_model(sharded)
    was_training = sharded.training
    sharded.eval()
    embedded, items = catalogue_vectors(model, loader.catalogue, ranks.device)
    rows = []
    for batch in loader.batches(Cursor()):
        moved = batch.to(ranks.device)
        users = model.user_vectors(embedded, moved, noise_seed)[: batch.size]
        rows.append(_batch_ranks(users, items, moved, loader, prior))
    sharded.train(was_training)
    return gathered(rows)


def gathered(rows: list[Tensor]) -> Ranked | None:
    """The rows [B, 3] of targets and ranks of all batches and ranks, on the first rank."""
    columns = gather_rows_to(torch.cat(rows).cpu())
    return None if columns is None else Ranked(*columns.T.contiguous().numpy())


def _batch_ranks(
    users: Tensor,
    items: Tensor,
    batch: SequenceBatch,
    loader: SequenceLoader,
    prior: Prior | None,
) -> Tensor:
    """Target and its two ranks for each real row, int64 [size, 3]."""
    offsets, had = loader.seen(batch.first_row, batch.size)
    seen = Seen(*(torch.as_tensor(part).to(items.device, torch.int64) for part in (offsets, had)))
    targets = batch.targets[: batch.size, -1]
    added = None if prior is None else prior(batch)
    return torch.stack((targets, *target_ranks(users, items, targets, seen, added)), dim=1)

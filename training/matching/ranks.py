"""Ranks of all targets of an evaluation part by a model, over any number of ranks.

Shapes: B rows of a batch, R rows of the part, M items of the catalogue.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
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
    batches = loader.batches(Cursor())
    ranked = rank_with_priors(sharded, loader, batches, ranks, noise_seed, [prior])
    return None if ranked is None else ranked[0]


@torch.no_grad()
def rank_with_priors(
    sharded: DistributedModelParallel,
    loader: SequenceLoader,
    batches: Iterable[SequenceBatch],
    ranks: Ranks,
    noise_seed: int,
    priors: Sequence[Prior | None],
) -> list[Ranked] | None:
    """As :func:`rank_batches`, once for each of ``priors``; the vectors are made only once.

    Args:
        sharded: a matching model.
        loader: of this rank, not a training one.
        batches: all of the loader's.
        ranks: this process among all.
        noise_seed: of whatever noise the model draws.
        priors: scores to add to the model's; None: the model's alone.
    """
    model = matching_model(sharded)
    was_training = sharded.training
    sharded.eval()
    embedded, items = catalogue_vectors(model, loader.catalogue, ranks.device)
    rows = []
    for batch in batches:
        users = model.user_vectors(embedded, batch.to(ranks.device), noise_seed)
        rows.append(batch_ranks(users[: batch.size], items, batch, loader, priors))
    sharded.train(was_training)
    columns = gather_rows_to(torch.cat(rows))
    return None if columns is None else ranked_rows(columns)


def batch_ranks(
    users: Tensor,
    items: Tensor,
    batch: SequenceBatch,
    loader: SequenceLoader,
    priors: Sequence[Prior | None],
) -> Tensor:
    """Each real row's target, then its two ranks with each prior: int64 [size, 1 + 2 P], CPU.

    Args:
        users: vectors of the real rows, [size, O].
        items: vectors of the catalogue, [M, O].
        batch: on the CPU.
        loader: that the batch comes from.
        priors: P of them.
    """
    targets = batch.targets[: batch.size, -1]
    offsets, had = loader.seen(batch.first_row, batch.size)
    seen = Seen(*(torch.from_numpy(part).to(users.device, torch.int64) for part in (offsets, had)))
    columns = [targets]
    for prior in priors:
        added = None if prior is None else prior(batch)
        found = target_ranks(users, items, targets.to(users.device), seen, added)
        columns += [column.cpu() for column in found]
    return torch.stack(columns, dim=1)


def ranked_rows(columns: Tensor) -> list[Ranked]:
    """What :func:`batch_ranks` gives, of all batches."""
    targets, *found = columns.T.contiguous().numpy()
    return [
        Ranked(targets, among_all, among_unseen)
        for among_all, among_unseen in zip(found[::2], found[1::2], strict=True)
    ]

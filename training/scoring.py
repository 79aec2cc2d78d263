"""Scores of all rows of a part, under any number of scenarios with one lookup each batch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torchrec.distributed import DistributedModelParallel

from dropdrift.data.batch import Batch
from dropdrift.data.schema import Schema
from dropdrift.kernels.feature_dropout import unpack_words
from dropdrift.training.build import ranking_model
from dropdrift.training.distributed import Ranks
from dropdrift.training.gather import gather_rows_to
from dropdrift.training.metrics import user_groups
from dropdrift.training.scenarios import Scenario, dropped_words


@dataclass(frozen=True)
class Scores:
    """Rows of all ranks, in the order of the part: S scenarios, R rows, L tasks.

    Attributes:
        logits: float32 [S, R, L].
        labels: float32 [R, L], NaN where a label is missing.
        users: int64 [R], 0 where the user is not known.
        missing: number of rows in which each field is missing, int64 [N].
    """

    logits: NDArray[np.float32]
    labels: NDArray[np.float32]
    users: NDArray[np.int64]
    missing: NDArray[np.int64]

    def user_groups(self, schema: Schema) -> NDArray[np.int64] | None:
        """What metrics per user group the rows by [R]; None in a data set without users.

        A row without a known user is a group of its own, which has one class and so is left out.
        """
        if not schema.has_user:
            return None
        return user_groups(self.users)


@torch.no_grad()
def score_batches(
    sharded: DistributedModelParallel,
    batches: Iterable[Batch],
    scenarios: Sequence[Scenario],
    ranks: Ranks,
    seed: int = 0,
) -> Scores | None:
    """Score every real row. All ranks must call, with the same number of batches.

    Each rank's batches are a stretch of the part, those of the ranks before it coming first.

    Returns:
        The rows of all ranks on the first rank, None on the others.
    """
    model = ranking_model(sharded)
    was_training = sharded.training
    sharded.eval()
    logits, labels, users = [], [], []
    fields = len(model.schema.fields)
    missing_rows = torch.zeros(fields, dtype=torch.int64, device=ranks.device)
    for batch in batches:
        moved = batch.to(ranks.device)
        embedded, missing = model.look_up(moved.features)
        by_scenario = [
            model.score(
                embedded,
                missing,
                dropped_words(
                    scenario, model.schema, missing, seed=seed, first_row=batch.first_row
                ),
            )
            for scenario in scenarios
        ]
        missing_rows += unpack_words(missing[: batch.size], fields).sum(dim=0)
        logits.append(torch.stack(by_scenario, dim=1)[: batch.size].float().cpu())
        labels.append(batch.labels[: batch.size, model.label_columns])
        users.append(batch.users[: batch.size])
    sharded.train(was_training)
    dist.all_reduce(missing_rows)
    gathered = [gather_rows_to(torch.cat(parts)) for parts in (logits, labels, users)]
    all_logits, all_labels, all_users = gathered
    if all_logits is None or all_labels is None or all_users is None:
        return None
    return Scores(
        logits=all_logits.transpose(0, 1).contiguous().numpy(),
        labels=all_labels.numpy(),
        users=all_users.numpy(),
        missing=missing_rows.cpu().numpy(),
    )

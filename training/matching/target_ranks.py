"""Exact ranks of targets over the whole catalogue, with and without the items already seen.

A target's rank is 1 + the number of other items with a score at least as high: a tie counts
against the model, so that one that scores everything alike gains nothing. *Unseen* ranks leave
out the items of a user's sequence before the target; the target itself always takes part.

Shapes: B rows, M items of the catalogue, O width of the vectors, S seen items of all rows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

# Memory that the scores of one block of rows may take, in bytes, and the most rows of one.
BLOCK_BYTES = 64 * 2**20
BLOCK_ROWS = 256

# Scores [stop - start, M] of the rows from start to stop, to be added to the model's.
PriorScores = Callable[[int, int], Tensor]


@dataclass(frozen=True)
class Seen:
    """Items that each row's user had before the target, in any order, repetitions allowed.

    Attributes:
        offsets: int64 [B + 1]; row b's are ``items[offsets[b]:offsets[b + 1]]``.
        items: int64 [S], rows of the catalogue.
    """

    offsets: Tensor
    items: Tensor


def target_ranks(
    users: Tensor,
    items: Tensor,
    targets: Tensor,
    seen: Seen,
    prior: PriorScores | None = None,
    block_bytes: int = BLOCK_BYTES,
) -> tuple[Tensor, Tensor]:
    """Ranks of the targets among all items and among the unseen ones.

    Every product is of the same shape, whatever B, so that a row's scores do not depend on the
    rows beside it; and never of one row, since the kernels for that add up differently in the
    last columns, and items of one vector would not tie.

    Args:
        users: vectors of the rows, [B, O].
        items: vectors of the catalogue, [M, O].
        targets: rows of the catalogue, int64 [B].
        seen: what to leave out of the second ranks.
        prior: scores to add to the products of the vectors.
        block_bytes: memory for the scores of one block of rows; two rows are the least.

    Returns:
        Two int64 [B], on the device of ``users``.

    Raises:
        ValueError: a score is not finite.
    """
    block = max(2, min(BLOCK_ROWS, block_bytes // (4 * max(len(items), 1))))
    users = F.pad(users, (0, 0, 0, -len(users) % block))
    ranks, unseen = torch.empty_like(targets), torch.empty_like(targets)
    for start in range(0, len(targets), block):
        stop = min(start + block, len(targets))
        scores = (users[start : start + block] @ items.T)[: stop - start]
        if prior is not None:
            scores += prior(start, stop).to(scores)
        _check_finite(scores)
        rows = slice(start, stop)
        ranks[rows], unseen[rows] = _ranks(scores, targets[rows], _rows_of(seen, start, stop))
    return ranks, unseen


def _ranks(scores: Tensor, targets: Tensor, seen: Seen) -> tuple[Tensor, Tensor]:
    """Ranks by ``scores`` [B, M]."""
    own = scores.gather(1, targets[:, None])
    # The target is at least as high as itself, which is the 1 of its rank.
    ranks = (scores >= own).sum(dim=1)
    counts = seen.offsets.diff()
    row = torch.arange(len(targets), device=scores.device).repeat_interleave(counts)
    pairs = torch.unique(row * scores.shape[1] + seen.items)
    row, item = pairs // scores.shape[1], pairs % scores.shape[1]
    ahead = (scores[row, item] >= own[row, 0]) & (item != targets[row])
    return ranks, ranks - torch.bincount(row[ahead], minlength=len(targets))


def _rows_of(seen: Seen, start: int, stop: int) -> Seen:
    offsets = seen.offsets[start : stop + 1]
    return Seen(offsets - offsets[0], seen.items[offsets[0] : offsets[-1]])


def _check_finite(scores: Tensor) -> None:
    # One pass without a mask of the scores' size; NaN comes through both.
    if scores.numel() and not torch.stack(scores.aminmax()).isfinite().all():
        raise ValueError(
            "the model's scores are not all finite, so that they rank nothing: its training has "
            "diverged; lower optimizer.learning_rate or set optimizer.gradient_clip"
        )

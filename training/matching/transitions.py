"""Which item followed which, counted: a baseline without training, and a prior for a model.

With s the training sequences and g the decay, the count of a followed by b is

    C[a, b] = sum of g^(d - 1) over all places i and distances d = 1..D with s_i = a, s_(i+d) = b,

and a user with the history h_1 (newest), h_2, ... gives the item b the score

    sum over k of r^(k - 1) C[h_k, b], plus a weight times the share of b in all interactions.

Shapes: U users, N interactions, M items, T pairs with a count, B rows, L positions, H of them used.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dropdrift.data.ragged import end_to_end
from dropdrift.training.matching.config import TransitionConfig

Integers = NDArray[np.integer[Any]]
Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True, eq=False)
class Transitions:
    """A sparse matrix of counts [M, M], by rows, and the items' popularity.

    Attributes:
        offsets: int64 [M + 1]; the followers of item a are ``offsets[a]`` to ``offsets[a + 1]``.
        followers: int32 [T], ascending within each item.
        counts: float64 [T], positive.
        popularity: share of all interactions, float64 [M].
    """

    offsets: NDArray[np.int64]
    followers: NDArray[np.int32]
    counts: NDArray[np.float64]
    popularity: NDArray[np.float64]

    @staticmethod
    def count(
        offsets: NDArray[np.int64],
        items: NDArray[np.int32],
        catalogue: int,
        config: TransitionConfig,
    ) -> Transitions:
        """Count in sequences, of which user u's is ``items[offsets[u]:offsets[u + 1]]``.

        Args:
            offsets: int64 [U + 1].
            items: int32 [N], oldest first.
            catalogue: number of items, M.
            config: distance, decay, and whether to normalise.
        """
        users = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
        codes: Integers = np.empty(0, np.int64)
        counts: Floats = np.empty(0, np.float64)
        for distance in range(1, min(config.distance, max(len(items) - 1, 0)) + 1):
            same_user = users[distance:] == users[:-distance]
            first = items[:-distance][same_user].astype(np.int64)
            found, times = np.unique(
                first * catalogue + items[distance:][same_user], return_counts=True
            )
            weight = config.decay ** (distance - 1)
            codes, counts = _added(codes, counts, found, weight * times)
        rows = codes // catalogue
        row_offsets = np.searchsorted(rows, np.arange(catalogue + 1))
        if config.normalise:
            sums = np.bincount(rows, weights=counts, minlength=catalogue)
            counts = counts / sums[rows]
        return Transitions(
            offsets=row_offsets,
            followers=(codes % catalogue).astype(np.int32),
            counts=counts.astype(np.float64, copy=False),
            popularity=np.bincount(items, minlength=catalogue) / max(len(items), 1),
        )

    def scores(self, histories: Integers, config: TransitionConfig) -> NDArray[np.float64]:
        """Scores [B, M] of users with these histories [B, L], oldest first, -1 where there is none.

        Empty places are skipped: the newest ``config.history`` items count, wherever they are.
        """
        catalogue = len(self.popularity)
        row, item, weight = _newest(histories, config)
        offsets, places = end_to_end(self.offsets[item], self.offsets[item + 1])
        lengths = np.diff(offsets)
        cells = np.repeat(row * catalogue, lengths) + self.followers[places]
        added = np.repeat(weight, lengths) * self.counts[places]
        sums = np.bincount(cells, weights=added, minlength=len(histories) * catalogue)
        scores = sums.reshape(len(histories), catalogue) + config.popularity * self.popularity
        return scores.astype(np.float64, copy=False)


def _added(
    codes: Integers,
    counts: Floats,
    more_codes: Integers,
    more_counts: Floats,
) -> tuple[Integers, Floats]:
    """Distinct codes, ascending, and the sums of their counts."""
    merged, places = np.unique(np.concatenate([codes, more_codes]), return_inverse=True)
    sums = np.bincount(places, weights=np.concatenate([counts, more_counts]))
    return merged, sums.astype(np.float64, copy=False)


def _newest(histories: Integers, config: TransitionConfig) -> tuple[Integers, Integers, Floats]:
    """Row, item and weight of each history's newest items."""
    present = histories >= 0
    newer = present[:, ::-1].cumsum(axis=1)[:, ::-1] - present
    row, place = np.nonzero(present & (newer < config.history))
    weight = config.recency ** newer[row, place].astype(np.float64)
    return row, histories[row, place].astype(np.int64), weight

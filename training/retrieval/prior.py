"""Transition counts beside the model: items that followed the user's newest ones are candidates.

The prior of an item is that of :func:`training.matching.prior.transition_prior`, which evaluation
adds to the scores of all items. Here only candidates get it, so that an answer never takes the
whole catalogue.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dropdrift.data.interactions.sequences import Sequences
from dropdrift.data.ragged import end_to_end
from dropdrift.training.matching.config import TransitionConfig
from dropdrift.training.matching.transitions import Transitions
from dropdrift.training.retrieval.search import Rows

PRIOR_FILE = "transitions.npz"


@dataclass(frozen=True)
class TransitionPrior:
    """Counts of which item followed which, and how they become scores."""

    transitions: Transitions
    config: TransitionConfig

    @staticmethod
    def count(training: Sequences, items: int, config: TransitionConfig) -> TransitionPrior:
        """Counted in the sequences that were trained on; ``items`` of the catalogue."""
        counted = Transitions.count(training.offsets, training.items, items, config)
        return TransitionPrior(counted, config)

    @staticmethod
    def load(path: Path) -> TransitionPrior:
        """What :meth:`save` wrote."""
        with np.load(path) as arrays:
            parts = dict(arrays)
        config = TransitionConfig(**json.loads(str(parts.pop("config"))))
        return TransitionPrior(Transitions(**parts), config)

    def save(self, path: Path) -> None:
        """Write the counts into the file ``path``."""
        counted = {
            field.name: getattr(self.transitions, field.name)
            for field in dataclasses.fields(self.transitions)
        }
        np.savez_compressed(path, config=json.dumps(dataclasses.asdict(self.config)), **counted)

    def followers(self, history: Rows) -> tuple[Rows, NDArray[np.float64]]:
        """What followed the newest items of a ``history`` (oldest first), ascending, and its sums.

        The sums are without the share of the items' popularity.
        """
        newest = history[::-1][: self.config.history]
        offsets, places = end_to_end(
            self.transitions.offsets[newest], self.transitions.offsets[newest + 1]
        )
        weights = np.repeat(self.config.recency ** np.arange(len(newest)), np.diff(offsets))
        found, at = np.unique(self.transitions.followers[places], return_inverse=True)
        sums = np.bincount(at, weights=weights * self.transitions.counts[places])
        return found.astype(np.int64), sums.astype(np.float64, copy=False)

    def scores(
        self, candidates: Rows, followers: Rows, sums: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """log(1 + M s / sum of s) of ``candidates``, s being sums and popularity of M items.

        Args:
            candidates: rows of the catalogue, any.
            followers: from :meth:`followers`.
            sums: likewise.
        """
        popularity = self.transitions.popularity
        scores = self.config.popularity * popularity[candidates]
        if len(followers):
            places = np.searchsorted(followers, candidates).clip(max=len(followers) - 1)
            scores += np.where(followers[places] == candidates, sums[places], 0)
        mean = (sums.sum() + self.config.popularity * popularity.sum()) / len(popularity)
        lift: NDArray[np.float64] = np.log1p(scores / max(mean, np.finfo(np.float64).tiny))
        return lift

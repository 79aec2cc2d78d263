"""The best AUC that any model can have, where the true probability of each row's label is known."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Probabilities = NDArray[np.float64]

BINS = 1 << 16


class BayesOptimalAUC:
    """The AUC of the true probabilities, in expectation over the labels.

    It is the share of all pairs of a positive and a negative row, each weighted by the probability
    that the pair is one, in which the positive row has the higher probability. No ranking of these
    rows by anything that does not know the labels has a higher expected share.

    Memory does not grow with the rows: probabilities within 1/65536 count as equal, which changes
    the AUC by less than 1e-6.
    """

    def __init__(self) -> None:
        self._positive = np.zeros(BINS)
        self._negative = np.zeros(BINS)
        self._same_row = 0.0

    def add(self, probabilities: Probabilities) -> None:
        """Count rows with these ``probabilities`` [B] of a 1."""
        bins = np.minimum((probabilities * BINS).astype(np.int64), BINS - 1)
        self._positive += np.bincount(bins, probabilities, BINS)
        self._negative += np.bincount(bins, 1 - probabilities, BINS)
        self._same_row += float(np.sum(probabilities * (1 - probabilities)))

    @property
    def auc(self) -> float | None:
        """The AUC; none where no row can differ from another."""
        positive, negative = self._positive, self._negative
        # A bin's rows are even with each other: of their pairs, half count. A row is no pair.
        negatives_below = np.cumsum(negative) - negative / 2
        ordered = np.sum(positive * negatives_below) - self._same_row / 2
        pairs = positive.sum() * negative.sum() - self._same_row
        return float(ordered / pairs) if pairs > 0 else None

"""The items of a batch that its targets compete with: all, or a sample.

Shapes: I items of the catalogue, K rows of a batch's catalogue, S sampled negatives.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchrec.sparse.jagged_tensor import KeyedJaggedTensor

from dropdrift.data.interactions.catalogue import Catalogue


@dataclass(frozen=True, eq=False)
class Chosen:
    """The catalogue of one batch.

    Attributes:
        features: of its K rows.
        arrays: the arrays of items that were given, as rows of it; -1 stays -1.
        negatives: number of leading rows that targets compete with.
        log_expected: float32 [K], see ``SequenceBatch``.
    """

    features: KeyedJaggedTensor
    arrays: tuple[NDArray[np.int64], ...]
    negatives: int
    log_expected: Tensor


class Candidates(Protocol):
    """Chooses the catalogue of each batch.

    Attributes:
        rows: of every batch's catalogue, K.
    """

    rows: int

    def choose(self, *arrays: NDArray[np.int64], step: int) -> Chosen:
        """The catalogue of a batch with the items in ``arrays`` (-1: none)."""


class AllItems:
    """The whole catalogue, made once: the full softmax."""

    def __init__(self, catalogue: Catalogue) -> None:
        self.rows = len(catalogue)
        self._features = catalogue.features()
        self._log_expected = torch.zeros(len(catalogue))

    def choose(self, *arrays: NDArray[np.int64], step: int) -> Chosen:
        """All items; ``step`` makes no difference."""
        del step
        return Chosen(self._features, arrays, len(self._log_expected), self._log_expected)


class SampledItems:
    """Negatives sampled by popularity, then the items of the batch itself.

    The negatives are drawn with replacement in proportion to how often an item is trained on, the
    same ones on all ranks (Bengio and Senécal, IEEE Transactions on Neural Networks 2008).

    Args:
        catalogue: all items.
        counts: int64 [I], interactions of each that are trained on.
        sampled: negatives of a batch, S.
        rows: of a batch's catalogue, K: room for the negatives and every item of a rank's rows.
        seed: of the sampling.
    """

    def __init__(
        self,
        catalogue: Catalogue,
        counts: NDArray[np.int64],
        sampled: int,
        rows: int,
        seed: int,
    ) -> None:
        self._catalogue = catalogue
        self._ends = np.cumsum(counts)
        with np.errstate(divide="ignore"):
            expected = np.log(sampled) + np.log(counts) - np.log(self._ends[-1])
        self._log_expected = expected.astype(np.float32)
        self._sampled = sampled
        self.rows = rows
        self._seed = seed

    def choose(self, *arrays: NDArray[np.int64], step: int) -> Chosen:
        """The negatives of ``step``, then the distinct items of ``arrays``."""
        drawn = np.random.default_rng([self._seed, step]).integers(
            self._ends[-1], size=self._sampled
        )
        negatives = np.searchsorted(self._ends, drawn, side="right")
        own = np.unique(np.concatenate([array[array >= 0] for array in arrays]))
        items = np.concatenate([negatives, own])
        assert len(items) <= self.rows
        log_expected = np.zeros(self.rows, dtype=np.float32)
        log_expected[: len(items)] = self._log_expected[items]
        return Chosen(
            self._catalogue.features(items, fill=self.rows),
            tuple(_rows(array, own, self._sampled) for array in arrays),
            self._sampled,
            torch.from_numpy(log_expected),
        )


def _rows(array: NDArray[np.int64], items: NDArray[np.int64], first: int) -> NDArray[np.int64]:
    """Where the items of ``array`` are among the ascending ``items``, the first being ``first``."""
    return np.where(array >= 0, first + np.searchsorted(items, array), -1)

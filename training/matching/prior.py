"""Transition counts of a data set as scores: alone, or added to a model's."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from dropdrift.data.batch import SequenceBatch
from dropdrift.data.config import SequenceConfig
from dropdrift.data.interactions.loader import SequenceLoader
from dropdrift.data.interactions.protocols import training_sequences
from dropdrift.training.matching.config import TransitionConfig
from dropdrift.training.matching.ranks import Prior
from dropdrift.training.matching.target_ranks import PriorScores
from dropdrift.training.matching.transitions import Transitions


def training_transitions(
    loader: SequenceLoader, sequence: SequenceConfig, config: TransitionConfig
) -> Transitions:
    """Counted in what the protocol lets be trained on, whatever part ``loader`` is of."""
    training = training_sequences(loader.sequences, sequence)
    return Transitions.count(training.offsets, training.items, len(loader.catalogue), config)


def transition_scores(transitions: Transitions, config: TransitionConfig) -> Prior:
    """The scores of :meth:`Transitions.scores`, float64, for a baseline."""

    def of_batch(batch: SequenceBatch) -> PriorScores:
        """Transition counts that follow each row's newest items."""
        histories = batch.items.cpu().numpy()
        return lambda start, stop: torch.from_numpy(
            transitions.scores(histories[start:stop], config)
        )

    return of_batch


def transition_prior(
    transitions: Transitions, config: TransitionConfig, weight: float
) -> Prior | None:
    """``weight`` * log(1 + M s / sum of s) for scores s of M items: 0 for an item without any.

    The share of an item is taken relative to the catalogue's mean, so that the logarithm is of the
    size of a model's scores, which are logarithms of probabilities up to a constant.
    """
    if not weight:
        return None
    scores = transition_scores(transitions, config)

    def of_batch(batch: SequenceBatch) -> PriorScores:
        """The weighted logarithms for each row's newest items."""
        counted = scores(batch)
        return lambda start, stop: weight * _log_lift(counted(start, stop))

    return of_batch


def popularity_scores(transitions: Transitions) -> Prior:
    """Every row has the items' shares of all interactions as its scores, float64."""
    shares = torch.from_numpy(np.asarray(transitions.popularity))

    def of_batch(_: SequenceBatch) -> PriorScores:
        """The same shares for every row."""
        return lambda start, stop: shares.expand(stop - start, -1)

    return of_batch


def _log_lift(scores: Tensor) -> Tensor:
    means = scores.mean(dim=1, keepdim=True)
    return torch.log1p(scores / means.clamp(min=torch.finfo(scores.dtype).tiny))

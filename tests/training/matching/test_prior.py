from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from dropdrift.data.batch import SequenceBatch
from dropdrift.data.config import DataConfig, SequenceConfig
from dropdrift.data.interactions.loader import SequenceLoader
from dropdrift.data.loading.loader import Cursor
from dropdrift.data.schema import Schema
from dropdrift.training.matching.config import TransitionConfig
from dropdrift.training.matching.prior import training_transitions, transition_prior
from dropdrift.training.matching.transitions import Transitions

CONFIG = TransitionConfig(distance=2, decay=0.5, history=3, recency=0.5)


def loaded(folder, sequence: SequenceConfig) -> SequenceLoader:
    data = DataConfig(folder, batch_size=8, sequence=sequence)
    return SequenceLoader(folder, "test", Schema.load(folder), data, training=False)


def first_batch(loader: SequenceLoader) -> SequenceBatch:
    return next(loader.batches(Cursor()))


@pytest.mark.parametrize("popularity", [0.0, 0.1])
def test_a_prior_is_the_logarithm_of_how_much_likelier_than_any_item(
    interactions_folder, popularity
):
    config = TransitionConfig(distance=2, history=3, popularity=popularity)
    loader = loaded(interactions_folder, SequenceConfig())
    batch = first_batch(loader)
    transitions = training_transitions(loader, SequenceConfig(), config)
    prior = transition_prior(transitions, config, 0.7)
    assert prior is not None
    found = prior(batch)(2, 5)
    for row, scores in zip(
        found, transitions.scores(batch.items[2:5].numpy(), config), strict=True
    ):
        total = sum(scores)
        expected = [0.7 * math.log(1 + len(scores) * score / total) for score in scores]
        assert row.tolist() == pytest.approx(expected)


def test_nothing_is_added_without_a_weight_or_a_count(interactions_folder):
    config = TransitionConfig(popularity=0.0)
    loader = loaded(interactions_folder, SequenceConfig())
    none = np.zeros(31, np.int64)
    empty = Transitions(none, none[:0].astype(np.int32), np.zeros(0), np.zeros(30))
    assert transition_prior(empty, config, 0.0) is None
    prior = transition_prior(empty, config, 2.0)
    assert prior is not None
    assert torch.equal(prior(first_batch(loader))(0, 8), torch.zeros(8, 30, dtype=torch.float64))


@pytest.mark.parametrize("protocol", ["standard", "paper"])
def test_only_what_may_be_trained_on_is_counted(write_interactions, tmp_path, protocol):
    """Ten users with items of their own, one after the other, so that counts tell where from."""
    users = [[5 * user + place for place in range(5)] for user in range(10)]
    folder = write_interactions(tmp_path, users)
    sequence = SequenceConfig(protocol=protocol)
    transitions = training_transitions(loaded(folder, sequence), sequence, CONFIG)
    followed = np.repeat(np.arange(50), np.diff(transitions.offsets))
    pairs = set(zip(followed.tolist(), transitions.followers.tolist(), strict=True))
    within = [(0, 1), (0, 2), (1, 2)]
    if protocol == "standard":
        assert pairs == {(5 * user + a, 5 * user + b) for user in range(10) for a, b in within}
        return
    within += [(1, 3), (2, 3), (2, 4), (3, 4)]
    of_users = {item // 5 for pair in pairs for item in pair}
    assert len(of_users) == 7  # of ten, two are tested and one validates
    assert pairs == {(5 * user + a, 5 * user + b) for user in of_users for a, b in within}

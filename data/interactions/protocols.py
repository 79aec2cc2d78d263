"""Which interactions each part may see, and what it is to predict.

``standard``: a user's last interaction is the target of the test part, the second last that of the
validation part, and the others are trained on.

``paper`` (T2Diff, section 5.1, and what its authors published): users are split at random by
``split_seed``, 80 % to train and 20 % to test, and a tenth of the training users is the validation
part. Of each user that is evaluated, one random interaction is the target, and the items before it
are known.

Shapes: U users, N interactions, R rows of an evaluation part, T training users.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dropdrift.data.config import SequenceConfig
from dropdrift.data.counter import integers, keys, stream_key
from dropdrift.data.interactions.sequences import Sequences
from dropdrift.data.ragged import end_to_end

PARTS = ("train", "validation", "test")

# With this many items before a target at least, where a user has them, the sampled windows of
# MovieLens-1M hold as many interactions as the paper's Table 1 (see ``protocol_statistics``).
SHORTEST_PAPER_HISTORY = 10

_TEST_SHARE = 0.2
_VALIDATION_SHARE = 0.1
# Leaves one training user beside one of each of the others.
_FEWEST_USERS = 3

Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class TrainingUsers:
    """The interactions that may be trained on.

    Attributes:
        users: int64 [T], ascending, which of the sequences.
        starts: int64 [T], position of each user's first interaction in ``Sequences.items``.
        stops: int64 [T], one past the last that may be trained on.
        shortest: int64 [T], fewest items before a target of a random window.
    """

    users: Ints
    starts: Ints
    stops: Ints
    shortest: Ints

    def having_targets(self) -> TrainingUsers:
        """Without the users who have a single interaction to train on, so none to predict."""
        return self._take(np.flatnonzero(self.stops - self.starts >= 2))

    def _take(self, rows: Ints) -> TrainingUsers:
        return TrainingUsers(
            self.users[rows], self.starts[rows], self.stops[rows], self.shortest[rows]
        )


@dataclass(frozen=True, eq=False)
class Targets:
    """The rows of an evaluation.

    Attributes:
        users: int64 [R], ascending, which of the sequences.
        starts: int64 [R], position of each user's first interaction in ``Sequences.items``.
        positions: int64 [R], position of each row's target there.
    """

    users: Ints
    starts: Ints
    positions: Ints

    def __len__(self) -> int:
        return len(self.users)


def training_users(sequences: Sequences, config: SequenceConfig) -> TrainingUsers:
    """What may be trained on; ValueError with too few users for the protocol's split."""
    if config.protocol == "standard":
        users = np.arange(len(sequences))
        starts, stops = sequences.offsets[:-1], sequences.offsets[1:] - 2
        return TrainingUsers(users, starts, stops, np.ones_like(users))
    return whole_users(sequences, paper_users(sequences, config)["train"])


def training_sequences(sequences: Sequences, config: SequenceConfig) -> Sequences:
    """The interactions that may be trained on, for what is counted rather than learned."""
    chosen = training_users(sequences, config)
    offsets, positions = end_to_end(chosen.starts, chosen.stops)
    raw = sequences.users.take(chosen.users)
    return Sequences(raw, offsets, sequences.items[positions], sequences.times[positions])


def evaluation_targets(sequences: Sequences, part: str, config: SequenceConfig) -> Targets:
    """The rows of ``part``; those of ``train`` are one target of each training user.

    In the standard protocol that is the last one trained on, in the paper's one at random.

    Raises:
        ValueError: too few users for the protocol's split.
    """
    if config.protocol == "paper":
        chosen = whole_users(sequences, paper_users(sequences, config)[part])
        return _random_targets(chosen, config)
    behind = 1 + PARTS[::-1].index(part)
    positions = sequences.offsets[1:] - behind
    users = np.flatnonzero(positions > sequences.offsets[:-1])
    return Targets(users, sequences.offsets[:-1][users], positions[users])


def paper_users(sequences: Sequences, config: SequenceConfig) -> dict[str, Ints]:
    """The users of each part of the paper protocol, ascending.

    Raises:
        ValueError: there are too few users.
    """
    total = len(sequences)
    if total < _FEWEST_USERS:
        raise ValueError(
            f"data.sequence.protocol is 'paper', which needs {_FEWEST_USERS} users to split: "
            f"{total} have data.sequence.min_interactions = {config.min_interactions} interactions"
        )
    order = np.random.default_rng([config.split_seed, 0]).permutation(total)
    test = max(1, round(_TEST_SHARE * total))
    validation = max(1, round(_VALIDATION_SHARE * (total - test)))
    cut = np.split(order, [test, test + validation])
    return dict(zip(("test", "validation", "train"), map(np.sort, cut), strict=True))


def whole_users(sequences: Sequences, users: Ints) -> TrainingUsers:
    """All interactions of these users, for random windows of the paper protocol."""
    starts, stops = sequences.offsets[users], sequences.offsets[users + 1]
    shortest = np.minimum(SHORTEST_PAPER_HISTORY, stops - starts - 1)
    return TrainingUsers(users, starts, stops, shortest)


def _random_targets(chosen: TrainingUsers, config: SequenceConfig) -> Targets:
    first = chosen.starts + chosen.shortest
    drawn = keys(stream_key(config.split_seed, "evaluated window"), chosen.users)
    return Targets(chosen.users, chosen.starts, first + integers(drawn, chosen.stops - first))

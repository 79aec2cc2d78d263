"""Users, items and interactions of a protocol, as the paper's Table 1 counts them.

Measured on MovieLens-1M by ``tests/data/interactions/test_protocol_statistics.py``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dropdrift.data.config import SequenceConfig
from dropdrift.data.interactions.protocols import (
    Targets,
    TrainingUsers,
    evaluation_targets,
    paper_users,
    whole_users,
)
from dropdrift.data.interactions.sequences import Sequences
from dropdrift.data.interactions.training_rows import Windows


@dataclass(frozen=True)
class ProtocolStatistics:
    """A row of Table 1.

    Attributes:
        users: users with enough interactions.
        items: distinct items that they met.
        interactions: distinct pairs of user and item.
    """

    users: int
    items: int
    interactions: int


def protocol_statistics(
    sequences: Sequences, config: SequenceConfig, seed: int = 0
) -> ProtocolStatistics:
    """What a protocol makes of the data.

    ``standard`` uses everything. ``paper`` counts, as published, what is in the windows that it
    draws, histories and targets: ``windows_per_user`` of each training user, the validation part
    among them since the publication has none, and one of each test user.

    Args:
        sequences: the users with enough interactions.
        config: the protocol and its windows.
        seed: of the training windows.

    Raises:
        ValueError: there are too few users for the protocol's split.
    """
    used = np.ones(len(sequences.items), dtype=bool)
    if config.protocol == "paper":
        parts = paper_users(sequences, config)
        training = np.sort(np.concatenate([parts["train"], parts["validation"]]))
        used = _in_training_windows(sequences, whole_users(sequences, training), config, seed)
        used |= _in_windows(sequences, evaluation_targets(sequences, "test", config), config)
    user = np.repeat(np.arange(len(sequences)), sequences.lengths)[used]
    items = sequences.items[used].astype(np.int64)
    pairs = np.unique(user * (1 + items.max(initial=0)) + items)
    return ProtocolStatistics(len(sequences), len(np.unique(items)), len(pairs))


def _in_training_windows(
    sequences: Sequences, users: TrainingUsers, config: SequenceConfig, seed: int
) -> NDArray[np.bool_]:
    windows = Windows(users, config, seed)
    used = np.zeros(len(sequences.items), dtype=bool)
    each = config.windows_per_user
    for number in range(each):
        rows = windows.rows(np.arange(len(windows) // each) * each + number, epoch=0)
        used |= _marked(len(used), rows.starts, rows.stops)
    return used


def _in_windows(
    sequences: Sequences, targets: Targets, config: SequenceConfig
) -> NDArray[np.bool_]:
    starts = np.maximum(targets.starts, targets.positions - config.window)
    return _marked(len(sequences.items), starts, targets.positions)


def _marked(total: int, starts: NDArray[np.int64], stops: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which of ``total`` positions are in a window or its target; windows must not overlap."""
    change = np.zeros(total + 1, dtype=np.int8)
    change[starts] += 1
    change[stops + 1] -= 1
    marked: NDArray[np.bool_] = np.cumsum(change[:-1], dtype=np.int8) > 0
    return marked

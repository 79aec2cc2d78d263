"""The rows of an epoch of training: stretches of sequences, or windows.

A row is where it starts and stops in ``Sequences.items``; it is looked up from its number, the seed
and the epoch alone, so that no list of rows is ever made.

Shapes: T training users, R rows asked for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from dropdrift.data.config import SequenceConfig
from dropdrift.data.counter import integers, keys, stream_key
from dropdrift.data.interactions.protocols import TrainingUsers
from dropdrift.data.interactions.random_order import permuted

Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Rows:
    """Some rows.

    Attributes:
        starts: int64 [R], position of the first item in ``Sequences.items``.
        stops: int64 [R], one past the last item of the input, so the position of its target.
    """

    starts: Ints
    stops: Ints

    def slice(self, start: int, stop: int) -> Rows:
        """Rows ``start`` to ``stop``."""
        return Rows(self.starts[start:stop], self.stops[start:stop])


class TrainingRows(Protocol):
    """The rows of an epoch.

    Attributes:
        length: positions of a row.
        every_position: whether every position has a target, or the last alone.
    """

    length: int
    every_position: bool

    def __len__(self) -> int:
        """Number of rows of an epoch."""

    def rows(self, numbers: Ints, epoch: int) -> Rows:
        """The rows with these numbers [R]."""


def training_rows(users: TrainingUsers, config: SequenceConfig, seed: int) -> TrainingRows:
    """The rows that ``config.training`` asks for."""
    if config.training == "every_position":
        kind = OneStretch if config.stretches == "one" else Stretches
        return kind(users.having_targets(), config.stretch, seed)
    return Windows(users.having_targets(), config, seed)


class Stretches:
    """Stretches of at most ``length`` items, each followed by its target.

    A user with t targets has ceil(t / length) stretches. Where they are cut is random in each
    epoch, and every target comes exactly once in it.
    """

    every_position = True

    def __init__(self, users: TrainingUsers, length: int, seed: int) -> None:
        self.length = length
        self._users = users
        self._targets = users.stops - users.starts - 1
        self._counts = -(-self._targets // length)
        self._ends = np.cumsum(self._counts)
        self._stream = stream_key(seed, "stretches")

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def rows(self, numbers: Ints, epoch: int) -> Rows:
        """The rows with these numbers [R]."""
        user = np.searchsorted(self._ends, numbers, side="right")
        counts, targets = self._counts[user], self._targets[user]
        # All stretches together may be longer than the sequence: they begin somewhat before it.
        slack = counts * self.length - targets
        key = keys(self._stream, epoch, self._users.users[user])
        begin = (numbers - self._ends[user] + counts) * self.length - integers(key, slack + 1)
        first = self._users.starts[user]
        return Rows(first + np.maximum(begin, 0), first + np.minimum(begin + self.length, targets))


class OneStretch:
    """One stretch of at most ``length`` items of each user, each followed by its target.

    Where it begins is random in each epoch. Users weigh the same however long their sequences are.
    """

    every_position = True

    def __init__(self, users: TrainingUsers, length: int, seed: int) -> None:
        self.length = length
        self._users = users
        self._stream = stream_key(seed, "stretches")

    def __len__(self) -> int:
        return len(self._users.users)

    def rows(self, numbers: Ints, epoch: int) -> Rows:
        """The rows with these numbers [R]."""
        first, last = self._users.starts[numbers], self._users.stops[numbers] - 1
        choices = np.maximum(last - first - self.length, 0) + 1
        key = keys(self._stream, epoch, self._users.users[numbers])
        first = first + integers(key, choices)
        return Rows(first, np.minimum(first + self.length, last))


class Windows:
    """Random windows of at most ``length`` items, each with the item that follows.

    The targets of a user's windows are distinct where there are as many.
    """

    every_position = False

    def __init__(self, users: TrainingUsers, config: SequenceConfig, seed: int) -> None:
        self.length = config.window
        self._users = users
        self._each = config.windows_per_user
        self._fixed = config.fixed_windows
        self._stream = stream_key(seed, "windows")

    def __len__(self) -> int:
        return len(self._users.users) * self._each

    def rows(self, numbers: Ints, epoch: int) -> Rows:
        """The rows with these numbers [R]."""
        user, number = np.divmod(numbers, self._each)
        starts, stops = self._users.starts[user], self._users.stops[user]
        first = starts + self._users.shortest[user]
        choices = stops - first
        again, place = np.divmod(number, choices)
        key = keys(self._stream, 0 if self._fixed else epoch, self._users.users[user], again)
        targets = first + permuted(place, choices, key)
        return Rows(np.maximum(starts, targets - self.length), targets)

"""Puts interactions into one sequence for each user.

Shapes: N interactions, U users.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dropdrift.data.interactions.reading import Interactions
from dropdrift.data.interactions.row_checks import Times


@dataclass(frozen=True, eq=False)
class OrderedInteractions:
    """The interactions of one user after the other.

    Attributes:
        offsets: user u's interactions are those from ``offsets[u]`` to ``offsets[u + 1]``,
            int64 [U + 1].
        items: in the order of time, ties in the order of the source, int32 [N].
        times: in the unit of the source, rounded down; 0 where there are none, int64 [N].
        file_order: places within the user's sequence, such that ``items[file_order]`` is the
            sequence in the order of the source, int32 [N].
    """

    offsets: NDArray[np.int64]
    items: NDArray[np.int32]
    times: NDArray[np.int64]
    file_order: NDArray[np.int32]


def ordered(interactions: Interactions) -> OrderedInteractions:
    """Sorts ``interactions`` by user, then time, then place in the source."""
    users, times = interactions.users, interactions.times
    counts = np.bincount(users, minlength=len(interactions.user_ids))
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    by_file = np.argsort(users, kind="stable")
    by_time = by_file if times is None else np.lexsort((times, users))
    # Where each interaction of the source is in its user's sequence.
    place = np.empty(len(users), dtype=np.int32)
    place[by_time] = np.arange(len(users)) - np.repeat(offsets[:-1], counts)
    return OrderedInteractions(
        offsets=offsets,
        items=interactions.items[by_time],
        times=_whole(times, len(users))[by_time],
        file_order=place[by_file],
    )


def _whole(times: Times | None, count: int) -> NDArray[np.int64]:
    if times is None:
        return np.zeros(count, dtype=np.int64)
    return (times if times.dtype == np.int64 else np.floor(times)).astype(np.int64, copy=False)

"""What each user did before: lists that look strictly back in time.

Shapes: R rows, V values of all rows.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray


def recent_values(
    users: NDArray[np.int64],
    times: NDArray[np.float64],
    values: pa.Array,
    kept: NDArray[np.bool_],
    length: int,
) -> pa.ListArray:
    """The last ``length`` kept values of each row's user, oldest first.

    Only rows with a time before the row's own count: not those of the same time.

    Args:
        users: a code for each row's user [R].
        times: of each row [R], in any order.
        values: what is listed [R].
        kept: rows whose value is listed [R].
        length: the most that are listed.

    Returns:
        One list for each row, in the order of the rows given [R].
    """
    order, start, stop = _earlier(users, times, kept)
    start = np.maximum(start, stop - length)

    sorted_values = values.take(pa.array(order[kept[order]]))
    original = np.argsort(order)
    start, lengths = start[original], (stop - start)[original]
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    positions = np.arange(offsets[-1]) + np.repeat(start - offsets[:-1], lengths)
    listed = sorted_values.take(pa.array(positions))
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), listed)


def earlier_counts(
    users: NDArray[np.int64], times: NDArray[np.float64], kept: NDArray[np.bool_]
) -> NDArray[np.int64]:
    """How many kept rows of each row's user have a time before the row's own [R].

    The arguments are those of :func:`recent_values`.
    """
    order, start, stop = _earlier(users, times, kept)
    counts = np.empty(len(order), dtype=np.int64)
    counts[order] = stop - start
    return counts


def _earlier(
    users: NDArray[np.int64], times: NDArray[np.float64], kept: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """The rows by user and time [R], and of each of these which kept rows are earlier.

    Kept rows are numbered in that order, over all users; those from the second array [R] up to
    the third [R] are the user's own and before the row's time.
    """
    order = np.lexsort((times, users))
    user, time = users[order], times[order]
    new_user = np.append(True, user[1:] != user[:-1])
    new_time = new_user | np.append(True, time[1:] != time[:-1])
    # Kept values before each row, over all users, in the sorted order.
    before = np.concatenate([[0], np.cumsum(kept[order])[:-1]])
    start = np.maximum.accumulate(np.where(new_user, before, 0))
    stop = np.maximum.accumulate(np.where(new_time, before, 0))
    return order, start, stop


class RecentHistory:
    """:func:`recent_values` over a stream, with the memory of ``length`` values for each user.

    A row sees the rows of its own batch and of those before that are earlier in time. In a stream
    that is not in the order of time it may miss some of them, and never sees a later one.

    Args:
        length: the most that are listed.
    """

    def __init__(self, length: int) -> None:
        self._length = length
        self._users = np.zeros(0, dtype=np.int64)
        self._times = np.zeros(0, dtype=np.float64)
        self._values: pa.Array | None = None

    def add(
        self,
        users: NDArray[np.int64],
        times: NDArray[np.float64],
        values: pa.Array,
        kept: NDArray[np.bool_],
    ) -> pa.ListArray:
        """The lists of the next rows [R]; arguments as for :func:`recent_values`."""
        remembered = len(self._users)
        users = np.concatenate([self._users, users])
        times = np.concatenate([self._times, times])
        kept = np.concatenate([np.ones(remembered, dtype=np.bool_), kept])
        if self._values is not None:
            values = pa.concat_arrays([self._values, values])
        lists = recent_values(users, times, values, kept, self._length)
        self._remember(users, times, values, kept)
        return lists.slice(remembered)

    def _remember(
        self,
        users: NDArray[np.int64],
        times: NDArray[np.float64],
        values: pa.Array,
        kept: NDArray[np.bool_],
    ) -> None:
        """Keep the newest values of each user."""
        rows = np.flatnonzero(kept)
        rows = rows[np.lexsort((times[rows], users[rows]))]
        user = users[rows]
        ends = np.flatnonzero(np.append(user[1:] != user[:-1], True)) if len(rows) else rows
        sizes = np.diff(np.append(-1, ends))
        from_end = np.repeat(ends, sizes) - np.arange(len(rows))
        rows = rows[from_end < self._length]
        self._users, self._times, self._values = (
            users[rows],
            times[rows],
            values.take(pa.array(rows)),
        )

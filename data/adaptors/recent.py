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
    order = np.lexsort((times, users))
    user, time = users[order], times[order]
    new_user = np.append(True, user[1:] != user[:-1])
    new_time = new_user | np.append(True, time[1:] != time[:-1])
    # Kept values before each row, over all users, in the sorted order.
    before = np.concatenate([[0], np.cumsum(kept[order])[:-1]])
    start = np.maximum.accumulate(np.where(new_user, before, 0))
    stop = np.maximum.accumulate(np.where(new_time, before, 0))
    start = np.maximum(start, stop - length)

    sorted_values = values.take(pa.array(order[kept[order]]))
    original = np.argsort(order)
    start, lengths = start[original], (stop - start)[original]
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    positions = np.arange(offsets[-1]) + np.repeat(start - offsets[:-1], lengths)
    listed = sorted_values.take(pa.array(positions))
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), listed)

"""Lists of different lengths in one flat array, one after the other.

List i of ``values`` is ``values[offsets[i]:offsets[i + 1]]``.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def end_to_end(
    starts: NDArray[np.int64], stops: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Stretches of an array as lists of their own.

    Args:
        starts: position of each stretch's first entry, [R], in any order.
        stops: one past its last entry, [R].

    Returns:
        The lists' offsets, int64 [R + 1], and the position that each of their entries comes from.
    """
    lengths = stops - starts
    offsets = np.zeros(len(lengths) + 1, dtype=np.int64)
    np.cumsum(lengths, out=offsets[1:])
    # An entry's place in the result, moved by how far its stretch moves.
    moved = np.repeat(starts - offsets[:-1], lengths)
    return offsets, moved + np.arange(len(moved))

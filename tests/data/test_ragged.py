from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from dropdrift.data.ragged import end_to_end


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 5))))
def test_stretches_are_laid_end_to_end(stretches: list[tuple[int, int]]) -> None:
    starts = np.array([start for start, _ in stretches], dtype=np.int64)
    lengths = np.array([length for _, length in stretches], dtype=np.int64)
    offsets, positions = end_to_end(starts, starts + lengths)
    assert len(offsets) == len(stretches) + 1
    for row, (start, length) in enumerate(stretches):
        found = positions[offsets[row] : offsets[row + 1]]
        assert found.tolist() == list(range(start, start + length))
    assert len(positions) == offsets[-1] == lengths.sum()

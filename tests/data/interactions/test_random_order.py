from __future__ import annotations

import math
from collections import Counter
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dropdrift.data.counter import keys
from dropdrift.data.interactions.random_order import permuted


@given(st.integers(1, 2000), st.integers(0, 2**63))
def test_it_is_a_permutation(size: int, stream: int) -> None:
    found = permuted(np.arange(size), size, keys(stream))
    assert sorted(found.tolist()) == list(range(size))


@given(st.lists(st.tuples(st.integers(1, 50), st.integers(0, 10**6)), min_size=1, max_size=20))
def test_each_entry_has_its_own_size_and_key(entries: list[tuple[int, int]]) -> None:
    sizes, streams = (np.array(column) for column in zip(*entries, strict=True))
    index = streams % sizes
    found = permuted(index, sizes, keys(1, streams))
    for i, size, stream, value in zip(index, sizes, streams, found, strict=True):
        assert permuted(np.array([i]), int(size), keys(1, int(stream))).tolist() == [value]


def test_large_sizes() -> None:
    size = 10**12
    index = np.arange(size - 10_000, size)
    found = permuted(index, size, keys(3))
    assert len(np.unique(found)) == 10_000
    assert 0 <= found.min() < size / 100
    assert size * 0.99 < found.max() < size
    assert abs(np.corrcoef(index, found)[0, 1]) < 0.04


@pytest.mark.parametrize("size", [2, 3, 4, 5])
def test_all_permutations_are_about_as_likely(size: int) -> None:
    draws = 40_000
    index = np.tile(np.arange(size), draws)
    found = permuted(index, size, keys(0, np.repeat(np.arange(draws), size)))
    counts = Counter(map(tuple, found.reshape(draws, size).tolist()))
    assert set(counts) == set(permutations(range(size)))
    share = 1 / math.factorial(size)
    for count in counts.values():
        assert count / draws == pytest.approx(share, abs=5 * math.sqrt(share / draws))

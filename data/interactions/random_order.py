"""Permutations as a function of a key: any entry is looked up without making the others.

So an epoch of any number of rows is shuffled, and any number of windows drawn, in no memory, and a
run goes on in the middle of an epoch at once.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dropdrift.data.counter import Keys, keys

# With fewer, permutations of 5 and 6 entries are not all equally likely (chi-square).
_ROUNDS = 16

Ints = NDArray[np.int64]


def permuted(index: Ints, size: Ints | int, key: Keys) -> Ints:
    """Where a random permutation of 0 to ``size`` - 1 takes ``index``.

    A Feistel network on numbers of two digits (left of base a, right of base b, a * b >= size),
    which is a permutation whatever its round function is; what comes out too large goes through
    again ("cycle walking"; Black and Rogaway, "Ciphers with arbitrary finite domains", 2002).

    Args:
        index: int64 [R], each in [0, size).
        size: int64 [R], or one for all; positive.
        key: uint64 [R] or [1], of the permutation.
    """
    index, size, key = (np.array(part) for part in np.broadcast_arrays(index, size, key))
    base = np.ceil(np.sqrt(size)).astype(np.int64)
    other = -(-size // base)
    left = np.arange(len(index))
    while len(left):
        index[left] = _network(index[left], base[left], other[left], key[left])
        left = left[index[left] >= size[left]]
    return index


def _network(index: Ints, base: Ints, other: Ints, key: Keys) -> Ints:
    high, low = np.divmod(index, other)
    for number in range(0, _ROUNDS, 2):
        high = (high + _moved(key, number, low, base)) % base
        low = (low + _moved(key, number + 1, high, other)) % other
    return high * other + low


def _moved(key: Keys, number: int, digit: Ints, base: Ints) -> Ints:
    """How far one round moves the other digit: SplitMix64, begun at ``key``."""
    mixed = keys(0, key + (digit * _ROUNDS + number).astype(np.uint64))
    # Bases are far below 2^32: the remainder is as good as uniform.
    return (mixed % base.astype(np.uint64)).astype(np.int64)

"""Random numbers as a pure function of a key.

Such a number is looked up, not drawn in sequence: the same (seed, stream, entity) gives the same
number whatever was generated before, so any range of rows can be made on its own. The mixing step
is the finaliser of SplitMix64 (Steele, Lea, Flood, "Fast splittable pseudorandom number
generators", 2014).
"""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

Keys = NDArray[np.uint64]
Floats = NDArray[np.float32]
Ints = NDArray[np.int64]

_GOLDEN = 0x9E3779B97F4A7C15
_FIRST = np.uint64(0xBF58476D1CE4E5B9)
_SECOND = np.uint64(0x94D049BB133111EB)


def stream_key(seed: int, name: str) -> int:
    """A 64-bit key of the stream ``name`` under ``seed``."""
    return int.from_bytes(hashlib.blake2b(f"{seed}/{name}".encode(), digest_size=8).digest())


def keys(stream: int, *parts: NDArray[Any] | int) -> Keys:
    """One key for every row of ``parts`` (integers, broadcast together) under ``stream``."""
    mixed: Keys = np.array(stream, dtype=np.uint64).reshape(1)
    for part in parts:
        mixed = _mix(mixed + np.asarray(part).astype(np.uint64) * np.uint64(_GOLDEN))
    return mixed


def uniform(key: Keys) -> NDArray[np.float64]:
    """Uniform numbers in the open interval (0, 1), one for each key."""
    return ((_mix(key) >> np.uint64(12)).astype(np.float64) + 0.5) * 2.0**-52


def happens(key: Keys, chance: float) -> NDArray[np.bool_]:
    """True with probability ``chance`` (below 1), for each key."""
    return _mix(key) < np.uint64(int(chance * 2**64))


def normal(key: Keys) -> Floats:
    """Standard normal numbers, one for each key (Box and Muller, on the halves of the key)."""
    bits = _mix(key)
    high = ((bits >> np.uint64(40)).astype(np.float32) + np.float32(1)) * np.float32(2.0**-24)
    low = (bits & np.uint64(0xFFFFFF)).astype(np.float32) * np.float32(2.0**-24)
    return np.sqrt(np.float32(-2) * np.log(high)) * np.cos(np.float32(2 * np.pi) * low)


def integers(key: Keys, bound: NDArray[Any] | int) -> Ints:
    """Uniform integers in [0, ``bound``), one for each key."""
    return (uniform(key) * bound).astype(np.int64)


def gumbel(key: Keys) -> Floats:
    """Standard Gumbel numbers: the arg max of log p + gumbel is a draw from p."""
    return -np.log(-np.log(uniform(key))).astype(np.float32)


def normals(key: Keys, count: int) -> Floats:
    """Standard normal numbers [len(key), ``count``]."""
    return normal(np.add.outer(key, _steps(count)))


def gumbels(key: Keys, count: int) -> Floats:
    """Standard Gumbel numbers [len(key), ``count``]."""
    return gumbel(np.add.outer(key, _steps(count)))


def _steps(count: int) -> Keys:
    return np.arange(count, dtype=np.uint64) * np.uint64(_GOLDEN)


def _mix(key: Keys) -> Keys:
    mixed = key ^ (key >> np.uint64(30))
    mixed = mixed * _FIRST
    mixed ^= mixed >> np.uint64(27)
    mixed *= _SECOND
    mixed ^= mixed >> np.uint64(31)
    return mixed

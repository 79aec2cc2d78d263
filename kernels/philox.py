"""Philox4x32-10, a counter-based random number generator, in plain integer tensor arithmetic.

Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011. The number at a counter
depends on key and counter alone, so any part of a random array can be made anywhere: on another
rank, in another order, after a restart.
"""

from __future__ import annotations

import torch
from torch import Tensor

MASK32 = 0xFFFFFFFF
ROUNDS = 10
_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_KEY_INCREMENTS = (0x9E3779B9, 0xBB67AE85)

Counter = tuple[Tensor, Tensor, Tensor, Tensor]


def philox4x32(counter: Counter, seed: int) -> Counter:
    """Four uniform 32-bit words for each counter.

    Args:
        counter: four int64 tensors of broadcastable shapes, each value in [0, 2**32).
        seed: the 64-bit key.

    Returns:
        Four int64 tensors of the broadcast shape, each value uniform in [0, 2**32).
    """
    c0, c1, c2, c3 = torch.broadcast_tensors(*counter)  # type: ignore[no-untyped-call]  # torch
    key = [seed & MASK32, (seed >> 32) & MASK32]
    for _ in range(ROUNDS):
        # 32 x 32 bits overflow int64, but wrap around to the right 64 bits.
        product0, product1 = c0 * _MULTIPLIERS[0], c2 * _MULTIPLIERS[1]
        high0, low0 = (product0 >> 32) & MASK32, product0 & MASK32
        high1, low1 = (product1 >> 32) & MASK32, product1 & MASK32
        c0, c1, c2, c3 = high1 ^ c1 ^ key[0], low1, high0 ^ c3 ^ key[1], low0
        key = [(k + i) & MASK32 for k, i in zip(key, _KEY_INCREMENTS, strict=True)]
    return c0, c1, c2, c3


def signed_seed(seed: int) -> int:
    """The int64 with the bits of a 64-bit seed, as kernels and operators' schemas take it.

    Raises:
        ValueError: the seed does not fit 64 bits.
    """
    if not -(2**63) <= seed < 2**64:
        raise ValueError(f"seed is {seed}, must fit 64 bits")
    return seed - 2**64 if seed >= 2**63 else seed

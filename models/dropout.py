"""Dropout whose masks depend on seed, step and row alone.

The usual one draws from an ambient generator: another mask on another number of ranks, and after
a resume. Here each block of rows of the global batch has a generator of its own (compare
``sharding.initialise``).
"""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor, nn

BLOCK_ROWS = 32
# Masks are made from 16 random bits a number.
_LEVELS = 1 << 16


class KeyedDropout(nn.Module):
    """Dropout of rows [B, ...], scaled by 1 / (1 - rate) in training; the identity elsewhere.

    Args:
        rate: share of numbers set to zero, to within 2**-17.
        seed: the run's.
        purpose: tells the draws of several places apart.
    """

    def __init__(self, rate: float, seed: int, purpose: str) -> None:
        super().__init__()
        self.rate, self.seed, self.purpose = rate, seed, purpose

    def forward(self, x: Tensor, step: int, first_row: int) -> Tensor:
        """The same shape.

        Args:
            x: [B, ...].
            step: optimizer steps taken before this batch.
            first_row: position of the first row in the global batch.
        """
        if not self.training or not self.rate:
            return x
        kept = keep_mask(x, self.rate, f"{self.seed}/{self.purpose}/{step}", first_row)
        return x * kept.to(x.dtype).mul_(1 / (1 - self.rate))


def keep_mask(x: Tensor, rate: float, key: str, first_row: int) -> Tensor:
    """Which numbers of ``x`` [B, ...] stay, as booleans of its shape."""
    end = first_row + x.shape[0]
    blocks = [
        _random_bits(key, block, x.shape[1:].numel(), x.device)
        for block in range(first_row // BLOCK_ROWS, -(-end // BLOCK_ROWS))
    ]
    start = first_row % BLOCK_ROWS
    if not blocks:
        return torch.ones_like(x, dtype=torch.bool)
    bits = torch.cat(blocks)[start : start + x.shape[0]].view(x.shape)
    return bits >= round(rate * _LEVELS) - _LEVELS // 2


def _random_bits(key: str, block: int, numbers: int, device: torch.device) -> Tensor:
    """int16 [BLOCK_ROWS, numbers], each of the 2**16 values equally likely."""
    digest = hashlib.sha256(f"{key}/{block}".encode()).digest()
    generator = torch.Generator(device).manual_seed(int.from_bytes(digest[:7], "big"))
    words = torch.empty(-(-BLOCK_ROWS * numbers // 4), dtype=torch.int64, device=device)
    words.random_(-(2**63), None, generator=generator)
    return words.view(torch.int16)[: BLOCK_ROWS * numbers].view(BLOCK_ROWS, numbers)

"""The newest entries before each position of a sequence.

Legend: B rows, L positions, Q positions that are asked for (1 or L).
"""

from __future__ import annotations

import torch
from torch import Tensor


def windows(sequence: Tensor, length: int, last_only: bool, fill: float = 0) -> Tensor:
    """The ``length`` newest entries up to and including each position, oldest first.

    Args:
        sequence: [B, L, ...], oldest first.
        length: entries of a window.
        last_only: only the window that ends at the last position.
        fill: what stands where a window reaches beyond the sequence.

    Returns:
        [B, Q, length, ...], Q = 1 or L: a view of the sequence, extended to the left where needed.
    """
    if last_only:
        newest = sequence[:, max(sequence.shape[1] - length, 0) :]
        return _extend(newest, length - newest.shape[1], fill).unsqueeze(1)
    return _extend(sequence, length - 1, fill).unfold(1, length, 1).movedim(-1, 2)


def _extend(sequence: Tensor, entries: int, fill: float) -> Tensor:
    if entries == 0:
        return sequence
    shape = (sequence.shape[0], entries, *sequence.shape[2:])
    return torch.cat([sequence.new_full(shape, fill), sequence], dim=1)


def lags(positions: int, last_only: bool, device: torch.device) -> Tensor:
    """How many positions before the asking one each position is, int64 [Q, L]; negative: after."""
    at = torch.arange(positions, device=device)
    asking = at[-1:] if last_only else at
    return asking.unsqueeze(1) - at

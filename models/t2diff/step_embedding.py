"""What an estimator is told of the diffusion step."""

from __future__ import annotations

import torch
from torch import Tensor


def wave_frequencies(count: int) -> Tensor:
    """2^-f for f = 0..count - 1; modules keep them: making them takes longer than the sines."""
    return torch.exp2(-torch.arange(count, dtype=torch.float32))


def step_waves(step: Tensor, frequencies: Tensor) -> Tensor:
    """sin(t / 2^f): [R, count] of t, [R], and :func:`wave_frequencies` [count]."""
    return torch.sin(step.unsqueeze(1) * frequencies)

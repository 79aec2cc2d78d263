"""What an estimator is told of the diffusion step."""

from __future__ import annotations

import torch
from torch import Tensor


def step_waves(step: Tensor, count: int) -> Tensor:
    """sin(t / 2^f) for f = 0..count - 1: [R, count] of t, [R]."""
    octave = torch.arange(count, device=step.device, dtype=torch.float32)
    return torch.sin(step.unsqueeze(1) * torch.exp2(-octave))

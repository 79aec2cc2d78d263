"""What the kernels replace: plain torch, as one writes it without them.

B rows, N fields, Z width of z, H hidden units. The masks' random numbers are torch's own.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "silu": F.silu,
    "gelu": F.gelu,
}


def draw_mask(missing: Tensor) -> Tensor:
    """Bool [B, N]: missing, or dropped with a probability that is drawn once a row."""
    rows, fields = missing.shape
    rate = torch.rand(rows, 1, device=missing.device)
    return missing | (torch.rand(rows, fields, device=missing.device) < rate)


def mask_embeddings(embedded: Tensor, keep: Tensor) -> Tensor:
    """[B, N * d] times [B, N] of 0 and 1, field by field."""
    rows, fields = keep.shape
    return (embedded.view(rows, fields, -1) * keep.unsqueeze(-1)).view(rows, -1)


def denoise_concatenated(
    missing: Tensor,
    noisy: Tensor,
    weight1: Tensor,
    bias1: Tensor,
    weight2: Tensor,
    bias2: Tensor,
    activation: str,
) -> tuple[Tensor, Tensor]:
    """W2 act(W1 [s, z_T] + b1) + b2, and s, both in the type of z_T."""
    step_embedding = draw_mask(missing).to(noisy.dtype)
    joined = torch.cat([step_embedding, noisy], dim=1)
    hidden = ACTIVATIONS[activation](F.linear(joined, weight1, bias1))
    return F.linear(hidden, weight2, bias2), joined[:, : missing.shape[1]]


def denoise_split(
    missing: Tensor,
    noisy: Tensor,
    weight1: Tensor,
    bias1: Tensor,
    weight2: Tensor,
    bias2: Tensor,
    activation: str,
) -> tuple[Tensor, Tensor]:
    """The same with W1 in two: no concatenation."""
    fields = missing.shape[1]
    step_embedding = draw_mask(missing).to(noisy.dtype)
    hidden = F.linear(noisy, weight1[:, fields:], bias1)
    hidden = hidden + F.linear(step_embedding, weight1[:, :fields])
    return F.linear(ACTIVATIONS[activation](hidden), weight2, bias2), step_embedding

"""The denoiser g of AsymDiffRec (section 3.3) as the paper's equation, on the real concatenation.

What every other implementation is compared with; gradients are those of automatic differentiation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from dropdrift.kernels.feature_dropout.words import unpack_words

Activation = Literal["relu", "silu", "gelu"]

# gelu is the exact one, with erf.
ACTIVATIONS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "silu": F.silu,
    "gelu": F.gelu,
}


def denoise(
    words: Tensor,
    noisy: Tensor,
    weight1: Tensor,
    bias1: Tensor,
    weight2: Tensor,
    bias2: Tensor,
    activation: str,
) -> Tensor:
    """z_0' = W2 act(W1 [s, z_T] + b1) + b2.

    Args:
        words: int32 [B, W], s packed; bit set = missing or dropped.
        noisy: z_T, [B, Z].
        weight1: W1, [H, N + Z]; its first N columns belong to s.
        bias1: b1, [H].
        weight2: W2, [Z, H].
        bias2: b2, [Z].
        activation: one of :data:`ACTIVATIONS`.

    Returns:
        z_0', [B, Z].
    """
    fields = weight1.shape[1] - noisy.shape[1]
    step_embedding = unpack_words(words, fields, noisy.dtype)
    hidden = F.linear(torch.cat([step_embedding, noisy], dim=1), weight1, bias1)
    return F.linear(ACTIVATIONS[activation](hidden), weight2, bias2)

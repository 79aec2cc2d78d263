"""The denoiser g of AsymDiffRec (section 3.3): a two-layer network on [s, z_T]."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from dropdrift.kernels.feature_dropout.words import unpack_words


def denoise(
    words: Tensor, noisy: Tensor, weight1: Tensor, bias1: Tensor, weight2: Tensor, bias2: Tensor
) -> Tensor:
    """z_0' = W2 relu(W1 [s, z_T] + b1) + b2, without making the concatenation.

    Args:
        words: int32 [B, W], s packed; bit set = missing or dropped.
        noisy: z_T, [B, Z].
        weight1: W1, [H, N + Z]; its first N columns belong to s.
        bias1: b1, [H].
        weight2: W2, [Z, H].
        bias2: b2, [Z].

    Returns:
        z_0', [B, Z].
    """
    fields = weight1.shape[1] - noisy.shape[1]
    step_embedding = unpack_words(words, fields, noisy.dtype)
    hidden = F.linear(noisy, weight1[:, fields:], bias1)
    hidden = hidden + F.linear(step_embedding, weight1[:, :fields])
    return F.linear(torch.relu(hidden), weight2, bias2)

"""Masking of pooled embeddings: x_0 to x_T."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from dropdrift.kernels.feature_dropout.words import unpack_words


def mask_features(embedded: Tensor, words: Tensor, widths: Sequence[int]) -> Tensor:
    """Zero the embeddings of missing and dropped fields.

    Args:
        embedded: [B, sum of widths], the pooled embeddings of all fields side by side.
        words: int32 [B, W], bit set = missing or dropped.
        widths: width of each of the N fields.

    Returns:
        [B, sum of widths]; the gradient is masked in the same way.

    Raises:
        ValueError: the widths do not add up to the embeddings' width.
    """
    if embedded.shape[1] != sum(widths):
        raise ValueError(f"embeddings are {embedded.shape[1]} wide, the fields {sum(widths)}")
    keep = 1 - unpack_words(words, len(widths), embedded.dtype)
    if len(set(widths)) == 1:
        by_field = embedded.view(-1, len(widths), widths[0])
        return (by_field * keep.unsqueeze(-1)).flatten(1)
    repeats = torch.tensor(widths, device=words.device)
    return embedded * keep.repeat_interleave(repeats, dim=1, output_size=sum(widths))

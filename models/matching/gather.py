"""Rows of the catalogue's embeddings, with -1 for none."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def gather_items(x: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """The embeddings of ``rows``, zeros where a row is -1, and where there is one.

    Args:
        x: [K, d].
        rows: int64 [B, L].

    Returns:
        [B, L, d] and bool [B, L].
    """
    present = rows >= 0
    return F.embedding(rows.clamp(min=0), x) * present.unsqueeze(-1), present

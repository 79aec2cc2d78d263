"""Losses. Legend: B rows, L tasks, Z width of the latent representation."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from dropdrift.models.config import ReconstructionNorm


def task_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Binary cross-entropy (eq. 1), summed over tasks and averaged over rows.

    Labels that are NaN count nothing. The divisor is the number of rows, labelled or not, so that
    the mean over ranks is the mean over the global batch.

    Args:
        logits: [B, L].
        labels: [B, L], 0, 1 or NaN.
    """
    known = ~torch.isnan(labels)
    losses = F.binary_cross_entropy_with_logits(
        logits.float(), torch.where(known, labels, torch.zeros_like(labels)), reduction="none"
    )
    return (losses * known).sum() / logits.shape[0]


def reconstruction_loss(reconstructed: Tensor, target: Tensor, norm: ReconstructionNorm) -> Tensor:
    """||z_0' - z_0||^2 (eq. 2), averaged over rows; over dimensions averaged or summed.

    The sum is the paper's; with a gradient through z_0 it can shrink z (docs/numerics.md).
    """
    squared = F.mse_loss(reconstructed.float(), target.float())
    return squared * target.shape[1] if norm == "sum" else squared

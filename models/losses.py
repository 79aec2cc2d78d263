"""Losses. Legend: B rows, L tasks, Z width of the latent representation."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from dropdrift.models.methods.config import ReconstructionNorm


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


def relative_error(decoded: Tensor, clean: Tensor) -> Tensor:
    """||x' - x||^2 / ||x||^2, averaged over rows: 1 for a decoder that says 0, at any scale of x.

    Numbers of x below 1e-3 in their root mean square count as that: a row without features, or
    tables that begin at zero, divide by nothing small.

    Args:
        decoded: x', [B, D], 0 where nothing is to be decoded.
        clean: x, [B, D], 0 likewise.
    """
    clean = clean.float()
    error = (decoded.float() - clean).square().sum(dim=1)
    size = clean.square().sum(dim=1).clamp(min=1e-6 * clean.shape[1])
    return (error / size).mean()

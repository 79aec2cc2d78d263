"""What a method is to the ranking model around which it is put.

Legend: B rows, D width of the embeddings, N fields, W mask words, Z width of z, L tasks.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import torch
from torch import Tensor, nn

from dropdrift.kernels.backend import AUTOMATIC


class BaseModel(Protocol):
    """What a method needs of a base model: h and f (AsymDiffRec, section 3.1).

    Attributes:
        widths: embedding width of each of the N fields.
        z_width: Z.
    """

    widths: tuple[int, ...]
    z_width: int

    def extract(self, embedded: Tensor) -> Tensor:
        """h: [B, D] to [B, Z], row by row."""

    def head(self, z: Tensor) -> Tensor:
        """f: [B, Z] to logits [B, L]."""


class Method(nn.Module):
    """How a base model is trained and served. The base model is passed in, never held.

    What is drawn at random depends on the run's seed, the step and the row of the global batch, so
    that the number of ranks changes nothing.

    Attributes:
        backend: of the operators that drop features, see ``kernels.feature_dropout``.
    """

    backend: str = AUTOMATIC

    def losses(
        self,
        base: BaseModel,
        embedded: Tensor,
        missing: Tensor,
        labels: Tensor,
        step: int,
        first_row: int,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss to minimise, and its parts, unweighted and detached, with signs of a collapse.

        Args:
            base: the base model.
            embedded: x, [B, D], 0 where a field is missing.
            missing: int32 [B, W], naturally missing fields.
            labels: [B, L], 0, 1 or NaN, which counts nothing.
            step: optimizer steps taken before this batch.
            first_row: position of row 0 in the global batch.
        """
        raise NotImplementedError

    def serve(self, z: Tensor, missing: Tensor) -> Tensor:
        """The representation that the head reads at serving, [B, Z]; here z itself.

        Args:
            z: h(x), [B, Z].
            missing: int32 [B, W], what the request lacks.
        """
        del missing
        return z


def weighted_sum(
    losses: Mapping[str, Tensor], weights: Mapping[str, float], z: Tensor
) -> tuple[Tensor, dict[str, Tensor]]:
    """The weighted sum of some losses; the losses detached, with the variance of z.

    Args:
        losses: each by its name.
        weights: of the losses, 1 where there is none.
        z: [B, Z]; a variance near 0 is a collapse, which a low loss can hide.
    """
    total = torch.stack([weights.get(name, 1.0) * loss for name, loss in losses.items()]).sum()
    parts = {name: loss.detach() for name, loss in losses.items()}
    return total, parts | {"z_variance": variance_over_rows(z)}


def variance_over_rows(z: Tensor) -> Tensor:
    """The variance over rows, averaged over dimensions, without gradient."""
    return z.detach().float().var(dim=0, correction=0).mean()

"""The loss over the catalogue, L_TOWER (T2Diff, eq. 24), without its scores in memory.

The scores of all targets against all items may take gigabytes, so they are made for a few rows at
a time, and each chunk's gradients with it, while its scores are at hand (as fused linear cross
entropies do). What is kept are the gradients with respect to users and items.

Legend: Q targets, K items, N items that targets compete with (the first of K), o width.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from dropdrift.models.matching.config import SoftmaxConfig

MEBIBYTE = 1 << 20


def full_softmax_loss(
    users: Tensor, items: Tensor, targets: Tensor, config: SoftmaxConfig
) -> Tensor:
    """Sum over targets of -log p(target | user), p a softmax over all items.

    Under autocast the products are in its precision, the softmax in float32.

    Args:
        users: [Q, o].
        items: [K, o].
        targets: int64 [Q], rows of ``items``, none missing.
        config: temperature, label smoothing and memory.
    """
    return _loss(users, items, targets, None, items.shape[0], config)


def sampled_softmax_loss(
    users: Tensor,
    items: Tensor,
    targets: Tensor,
    config: SoftmaxConfig,
    negatives: int,
    log_expected: Tensor,
    identities: Tensor,
) -> Tensor:
    """Sum over targets of -log of the softmax over the target and sampled items.

    exp(s_t) + sum over sampled j other than t of exp(s_j - log_expected_j) is an unbiased estimate
    of the full softmax's denominator (Bengio and Senecal, 2008; logQ correction, Yi et al., 2019).
    The target is always there, not sampled, and hence not corrected.

    Args:
        users: [Q, o].
        items: [K, o].
        targets: int64 [Q], rows of ``items``.
        config: temperature and memory; label smoothing is not used.
        negatives: N; the first N rows of ``items`` are the sample.
        log_expected: [K], logarithm of how often a row is expected in the sample.
        identities: int64 [K], which item a row is: a target does not compete with itself. An item
            may be sampled several times, and has a row each time.
    """
    sample = _Sample(log_expected[:negatives], identities[:negatives], identities[targets])
    return _loss(users, items, targets, sample, negatives, config)


@dataclass(frozen=True)
class _Sample:
    """What a sampled softmax needs besides scores: correction [N], items [N] and targets' [Q]."""

    log_expected: Tensor
    items: Tensor
    targets: Tensor


def _loss(
    users: Tensor,
    items: Tensor,
    targets: Tensor,
    sample: _Sample | None,
    negatives: int,
    config: SoftmaxConfig,
) -> Tensor:
    kind = users.device.type
    precision = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else users.dtype
    rows = max(1, config.memory_mb * MEBIBYTE // (4 * max(negatives, 1)))
    smoothing = 0.0 if sample is not None else config.label_smoothing
    with torch.autocast(kind, enabled=False):
        return _ChunkedSoftmax.apply(
            users / config.temperature,
            items,
            targets,
            sample,
            negatives,
            smoothing,
            rows,
            precision,
        )  # type: ignore[no-untyped-call]  # torch


class _ChunkedSoftmax(torch.autograd.Function):
    """Loss and gradients chunk by chunk; the backward only scales them."""

    @staticmethod
    def forward(
        ctx: Any,
        users: Tensor,
        items: Tensor,
        targets: Tensor,
        sample: _Sample | None,
        negatives: int,
        smoothing: float,
        rows: int,
        precision: torch.dtype,
    ) -> Tensor:
        """The summed loss; gradients are made on the way and kept."""
        exact = torch.promote_types(users.dtype, torch.float32)
        sums = _Sums(users.to(exact), items.to(exact), negatives, smoothing, precision)
        with_gradients = ctx.needs_input_grad[0] or ctx.needs_input_grad[1]
        for start in range(0, users.shape[0], rows):
            sums.add(slice(start, start + rows), targets, sample, with_gradients)
        if with_gradients:
            ctx.save_for_backward(
                sums.user_gradient.to(users.dtype), sums.item_gradient.to(items.dtype)
            )
        return sums.loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """The kept gradients, scaled."""
        user_gradient, item_gradient = ctx.saved_tensors
        return user_gradient * gradient, item_gradient * gradient, *(None,) * 6


class _Sums:
    """Loss and gradients so far. Users are already divided by the temperature."""

    def __init__(
        self,
        users: Tensor,
        items: Tensor,
        negatives: int,
        smoothing: float,
        precision: torch.dtype,
    ) -> None:
        self.users, self.items, self.negatives, self.smoothing = users, items, negatives, smoothing
        self.users_cast = users.to(precision)
        self.negatives_cast = items[:negatives].to(precision)
        self.mean_item = items.mean(0) if smoothing else None
        self.loss = users.new_zeros(())
        self.user_gradient = torch.empty_like(users)
        self.item_gradient = torch.zeros_like(items)

    def add(
        self, chunk: slice, targets: Tensor, sample: _Sample | None, with_gradients: bool
    ) -> None:
        """One chunk of rows: its loss and, while its scores are there, its gradients."""
        users, targets = self.users[chunk], targets[chunk]
        own_items = self.items[targets]
        own = (users * own_items).sum(1)
        scores = (self.users_cast[chunk] @ self.negatives_cast.T).to(users.dtype)
        if sample is not None:
            scores -= sample.log_expected
            scores.masked_fill_(sample.targets[chunk].unsqueeze(1) == sample.items, -torch.inf)
        highest = scores.amax(1) if self.negatives else own
        if sample is not None:
            highest = torch.maximum(highest, own)
        weights = scores.sub_(highest.unsqueeze(1)).exp_()
        total = weights.sum(1)
        # What the loss pulls the target up by; less its own share where that is not in `weights`.
        pull = torch.full_like(own, 1 - self.smoothing)
        if sample is not None:
            own_weight = (own - highest).exp()
            total += own_weight
            pull -= own_weight / total
        self.loss += (highest + total.log() - (1 - self.smoothing) * own).sum()
        if self.mean_item is not None:
            self.loss -= self.smoothing * (users @ self.mean_item).sum()
        if with_gradients:
            self._add_gradients(chunk, targets, own_items, weights, total, pull)

    def _add_gradients(
        self,
        chunk: slice,
        targets: Tensor,
        own_items: Tensor,
        weights: Tensor,
        total: Tensor,
        pull: Tensor,
    ) -> None:
        """Gradients from unnormalised probabilities; the smaller factor is what is divided."""
        users, total, pull = self.users[chunk], total.unsqueeze(1), pull.unsqueeze(1)
        weights = weights.to(self.negatives_cast.dtype)
        gradient = (weights @ self.negatives_cast).to(users.dtype).div_(total)
        gradient -= pull * own_items
        scaled = (users / total).to(weights.dtype)
        self.item_gradient[: self.negatives] += (weights.T @ scaled).to(users.dtype)
        self.item_gradient.index_add_(0, targets, -pull * users)
        if self.mean_item is not None:
            gradient -= self.smoothing * self.mean_item
            self.item_gradient -= self.smoothing / self.items.shape[0] * users.sum(0)
        self.user_gradient[chunk] = gradient

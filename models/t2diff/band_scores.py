"""Scores of the attention to the history, a block at a time.

    scores[q, j] = out . relu(A_q x_j + c_q),   A_q = plain + product diag(h_q)

The hidden layer has H numbers for every pair of positions, far more than goes in or comes out, and
only pairs within the window are needed. It is therefore made for a few rows and asking positions
at a time, so that it stays in a CPU's cache or a small part of a GPU's memory, and made again in
the backward.

Legend: B rows, L positions, Q of them that ask (the last Q), H hidden units, d width.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

# Bytes of one block's hidden layer, and asking positions of a block; measured at d = 64, H = 16.
BLOCK_BYTES = {"cpu": 512 << 10, "cuda": 256 << 20}
BLOCK_POSITIONS = 25

Block = tuple[slice, slice, slice]


def band_scores(
    x: Tensor,
    session: Tensor,
    plain: Tensor,
    product: Tensor,
    offset: Tensor,
    out: Tensor,
    window: int,
) -> Tensor:
    """Scores [B, Q, L]; within the window before each asking position, and undefined elsewhere.

    Under autocast everything is in its precision, but sums over blocks are in float32.

    Args:
        x: [B, L, d].
        session: h, [B, Q, d].
        plain: [H, d].
        product: [H, d].
        offset: c, [B, Q, H].
        out: [H].
        window: positions that are needed, the asking one included.
    """
    kind = x.device.type
    inputs: tuple[Tensor, ...] = (x, session, plain, product, offset, out)
    if torch.is_autocast_enabled(kind):
        inputs = tuple(tensor.to(torch.get_autocast_dtype(kind)) for tensor in inputs)
    with torch.autocast(kind, enabled=False):
        return _BandScores.apply(*inputs, window)  # type: ignore[no-untyped-call]  # torch


class _BandScores(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        session: Tensor,
        plain: Tensor,
        product: Tensor,
        offset: Tensor,
        out: Tensor,
        window: int,
    ) -> Tensor:
        """Scores [B, Q, L], zero outside the band."""
        ctx.save_for_backward(x, session, plain, product, offset, out)
        ctx.window = window
        scores = x.new_zeros(*session.shape[:2], x.shape[1])
        for rows, asking, seen in _blocks(x, session, out.shape[0], window):
            mixed = plain + product * session[rows, asking].unsqueeze(2)
            hidden = _hidden(mixed, x[rows, seen], offset[rows, asking])
            scores[rows, asking, seen] = (out @ hidden.flatten(0, 1)).view(
                *hidden.shape[:2], hidden.shape[3]
            )
        return scores

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Gradients of all tensors; the hidden layer is made again, block by block."""
        x, session, plain, product, offset, out = ctx.saved_tensors
        exact = torch.promote_types(x.dtype, torch.float32)
        d_x, d_plain, d_product, d_out = (
            torch.zeros_like(tensor, dtype=exact) for tensor in (x, plain, product, out)
        )
        d_session, d_offset = torch.empty_like(session), torch.empty_like(offset)
        for rows, asking, seen in _blocks(x, session, out.shape[0], ctx.window):
            guide, items = session[rows, asking].unsqueeze(2), x[rows, seen]
            mixed = plain + product * guide
            hidden = _hidden(mixed, items, offset[rows, asking])
            above = gradient[rows, asking, seen]
            d_out += (hidden.flatten(0, 1) @ above.flatten(0, 1).unsqueeze(2)).sum((0, 2))
            d_hidden = (above.unsqueeze(2) * out.unsqueeze(1)).mul_(hidden > 0)
            d_offset[rows, asking] = d_hidden.sum(3)
            d_hidden = d_hidden.flatten(1, 2)
            d_x[rows, seen] += d_hidden.transpose(1, 2) @ mixed.flatten(1, 2)
            d_mixed = (d_hidden @ items).view(mixed.shape)
            d_plain += d_mixed.sum((0, 1))
            d_session[rows, asking] = (d_mixed * product).sum(2)
            d_product += d_mixed.mul_(guide).sum((0, 1))
        return (
            d_x.to(x.dtype),
            d_session,
            d_plain.to(x.dtype),
            d_product.to(x.dtype),
            d_offset,
            d_out.to(x.dtype),
            None,
        )


def _hidden(mixed: Tensor, items: Tensor, offset: Tensor) -> Tensor:
    """The hidden layer [b, q, H, l] of A [b, q, H, d], x [b, l, d] and c [b, q, H]."""
    hidden = torch.baddbmm(
        offset.flatten(1).unsqueeze(2), mixed.flatten(1, 2), items.transpose(1, 2)
    )
    return hidden.relu_().view(*offset.shape, -1)


def _blocks(x: Tensor, session: Tensor, hidden: int, window: int) -> Iterator[Block]:
    """Rows, asking positions and the positions that those see, for one block after another."""
    rows, positions = x.shape[:2]
    asking = session.shape[1]
    most = min(BLOCK_POSITIONS, asking) * min(positions, BLOCK_POSITIONS + window - 1)
    step = max(1, BLOCK_BYTES.get(x.device.type, BLOCK_BYTES["cuda"]) // (4 * hidden * most))
    for first in range(0, asking, BLOCK_POSITIONS):
        end = min(first + BLOCK_POSITIONS, asking)
        before = positions - asking
        seen = slice(max(0, before + first - window + 1), before + end)
        for row in range(0, rows, step):
            yield slice(row, row + step), slice(first, end), seen

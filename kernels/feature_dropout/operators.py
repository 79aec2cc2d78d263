"""Feature dropout as torch operators, which torch.compile and torch.export take as they are.

Each resolves its backend where it runs, so that a graph holds neither Triton nor C. The functions
check their arguments; the operators behind them, ``torch.ops.dropdrift.*``, take what was checked.

Legend: B rows, N fields, W = ceil(N / 32) mask words a row, D the sum of the fields' widths.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from dropdrift.kernels.backend import AUTOMATIC, resolve_backend
from dropdrift.kernels.feature_dropout import compiled_words, forward_process, masking
from dropdrift.kernels.feature_dropout.checks import (
    check_beside,
    check_draw,
    check_embedded,
    check_last_row,
    check_words,
)
from dropdrift.kernels.philox import signed_seed


def drop_words(
    missing: Tensor,
    fields: int,
    *,
    seed: int,
    step: int,
    first_row: int,
    max_rate: float = 1.0,
    rate: float | None = None,
    backend: str = AUTOMATIC,
) -> Tensor:
    """Missing-or-dropped words of a batch: the forward process of section 3.2.

    Args:
        missing: int32 [B, W], the naturally missing fields; they stay set.
        fields: N.
        seed: 64-bit seed of the run.
        step: the step that the draw belongs to, below 2**32.
        first_row: position of row 0 in the global batch; the last row's is below 2**32.
        max_rate: p is uniform on [0, max_rate]; 1 makes T exactly uniform over the present fields.
        rate: a fixed p for all rows instead, as robustness curves need; resolution 2**-12.
        backend: ``triton``, ``torch`` or ``reference``; by default what suits the device. All give
            the same words.

    Returns:
        int32 [B, W]: the step embedding s of the paper, 1 = missing.

    Raises:
        ValueError: a number outside its range, words that do not fit the number of fields, or a
            backend that cannot run.
    """
    check_draw(missing, fields, step=step, first_row=first_row, max_rate=max_rate, rate=rate)
    return _drop_words(missing, fields, signed_seed(seed), step, first_row, max_rate, rate, backend)


@torch.library.custom_op("dropdrift::drop_words", mutates_args=())
def _drop_words(
    missing: Tensor,
    fields: int,
    seed: int,
    step: int,
    first_row: int,
    max_rate: float,
    rate: float | None,
    backend: str,
) -> Tensor:
    check_last_row(first_row, missing.shape[0])
    chosen = resolve_backend(backend, missing)
    draw = (fields, seed, step, first_row, max_rate, rate)
    if chosen == "triton":
        from dropdrift.kernels.feature_dropout import triton_words

        return triton_words.make_words(missing, *draw)
    if chosen == "torch" and missing.device.type == "cpu":
        return compiled_words.make_words(missing, *draw)
    return forward_process.make_words(missing, *draw)


@_drop_words.register_fake
def _fake_words(missing: Tensor, *_: object) -> Tensor:
    return missing.new_empty(missing.shape)


def mask_features(
    embedded: Tensor, words: Tensor, widths: Sequence[int], *, backend: str = AUTOMATIC
) -> Tensor:
    """Zero the embeddings of missing and dropped fields: x_0 to x_T.

    A dropped field is 0 whatever it was, NaN too. Under autocast the type stays, as that of any
    operation that computes nothing.

    Args:
        embedded: [B, D], the pooled embeddings of all fields side by side.
        words: int32 [B, W], bit set = missing or dropped.
        widths: width of each of the N fields.
        backend: ``triton``, ``torch`` or ``reference``; by default what suits the device.

    Returns:
        [B, D]; the gradient is masked in the same way.

    Raises:
        ValueError: embeddings or words that do not fit the widths or each other, or a backend that
            cannot run.
    """
    check_embedded(embedded, widths)
    check_words("words", words, len(widths))
    check_beside("words", words, "embedded", embedded)
    return _mask_features(embedded, words, list(widths), backend)


@torch.library.custom_op("dropdrift::mask_features", mutates_args=())
def _mask_features(embedded: Tensor, words: Tensor, widths: Sequence[int], backend: str) -> Tensor:
    chosen = resolve_backend(backend, embedded)
    if chosen == "triton":
        from dropdrift.kernels.feature_dropout import triton_masking

        return triton_masking.masked(embedded, words, widths)
    if chosen == "torch":
        return masking.masked(embedded, words, widths)
    return masking.masked_reference(embedded, words, widths)


@_mask_features.register_fake
def _fake_masked(embedded: Tensor, *_: object) -> Tensor:
    return embedded.new_empty(embedded.shape)


def _keep_words(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:  # noqa: ARG001  # by name
    _, words, ctx.widths, ctx.backend = inputs
    ctx.save_for_backward(words)


def _masked_gradient(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
    (words,) = ctx.saved_tensors
    return _mask_features(gradient, words, ctx.widths, ctx.backend), None, None, None


_mask_features.register_autograd(_masked_gradient, setup_context=_keep_words)

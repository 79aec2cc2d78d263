"""The denoiser as torch operators, which torch.compile and torch.export take as they are.

Each resolves its backend where it runs, so that no compiler looks into a kernel. The functions
check their arguments; the operators behind them, ``torch.ops.dropdrift.*``, take what was checked.
The reference is no operator but plain torch that autograd differentiates: what is compared with it
shares nothing with it.

Legend: B rows, N fields, W mask words, Z width of z, H hidden units.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from dropdrift.kernels.backend import AUTOMATIC, resolve_backend
from dropdrift.kernels.denoiser import reference, row_blocks
from dropdrift.kernels.denoiser.checks import check_arguments
from dropdrift.kernels.denoiser.tiles import out_of_range, triton_is_faster
from dropdrift.kernels.feature_dropout import drop_words
from dropdrift.kernels.feature_dropout.checks import check_draw
from dropdrift.kernels.philox import signed_seed

# noisy, weight1, bias1, weight2, bias2
Floating = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]


def denoise(
    words: Tensor,
    noisy: Tensor,
    weight1: Tensor,
    bias1: Tensor,
    weight2: Tensor,
    bias2: Tensor,
    *,
    activation: str = "relu",
    save_hidden: bool = False,
    backend: str = AUTOMATIC,
) -> Tensor:
    """z_0' = W2 act(W1 [s, z_T] + b1) + b2: the denoiser of section 3.3.

    Under autocast the floating-point arguments are cast to its type, as ``F.linear`` does.

    Args:
        words: int32 [B, W], s packed; bit set = missing or dropped.
        noisy: z_T, [B, Z].
        weight1: W1, [H, N + Z]; its first N columns belong to s.
        bias1: b1, [H].
        weight2: W2, [Z, H].
        bias2: b2, [Z].
        activation: ``relu``, ``silu`` or ``gelu`` (the exact one, with erf).
        save_hidden: keep the hidden layer [B, H] for the backward, which otherwise computes it
            again and keeps nothing but its arguments.
        backend: ``triton``, ``torch`` or ``reference``; by default what suits the call.

    Returns:
        z_0', [B, Z].

    Raises:
        ValueError: an argument whose type, device or shape does not fit the others, an unknown
            activation, or a backend that cannot run.
    """
    floating = _cast_under_autocast(noisy, weight1, bias1, weight2, bias2)
    check_arguments("words", words, *floating, activation)
    if backend == "reference":
        return reference.denoise(words, *floating, activation)
    return _denoise(words, *floating, activation, save_hidden, backend)[0]


def drop_and_denoise(
    missing: Tensor,
    noisy: Tensor,
    weight1: Tensor,
    bias1: Tensor,
    weight2: Tensor,
    bias2: Tensor,
    *,
    seed: int,
    step: int,
    first_row: int,
    max_rate: float = 1.0,
    rate: float | None = None,
    activation: str = "relu",
    save_hidden: bool = False,
    backend: str = AUTOMATIC,
) -> tuple[Tensor, Tensor]:
    """``drop_words`` and :func:`denoise` in one: with Triton, in one launch.

    Words depend on their key (seed, step, row) alone: they are the same again that the embeddings
    behind z_T were masked by.

    Args:
        missing: int32 [B, W], the naturally missing fields; they stay set.
        noisy: as of :func:`denoise`, like the other tensors, ``activation``, ``save_hidden`` and
            ``backend``.
        weight1: see there.
        bias1: see there.
        weight2: see there.
        bias2: see there.
        seed: as of ``drop_words``, like the next four.
        step: see there.
        first_row: see there.
        max_rate: see there.
        rate: see there.
        activation: see :func:`denoise`.
        save_hidden: see there.
        backend: see there.

    Returns:
        z_0' [B, Z], and the words s, int32 [B, W].

    Raises:
        ValueError: as of ``drop_words`` and :func:`denoise`.
    """
    floating = _cast_under_autocast(noisy, weight1, bias1, weight2, bias2)
    check_arguments("missing", missing, *floating, activation)
    fields = weight1.shape[1] - noisy.shape[1]
    check_draw(missing, fields, step=step, first_row=first_row, max_rate=max_rate, rate=rate)
    draw = (signed_seed(seed), step, first_row, max_rate, rate)
    if backend == "reference":
        words = _draw_words(missing, fields, *draw, backend)
        return reference.denoise(words, *floating, activation), words
    out, words, _ = _drop_and_denoise(missing, *floating, *draw, activation, save_hidden, backend)
    return out, words


@torch.library.custom_op("dropdrift::denoise", mutates_args=())
def _denoise(
    words: Tensor,
    noisy: Tensor,
    weight1: Tensor,
    bias1: Tensor,
    weight2: Tensor,
    bias2: Tensor,
    activation: str,
    save_hidden: bool,
    backend: str,
) -> tuple[Tensor, Tensor]:
    """z_0', and the hidden layer before the activation, [B, H] or [0, H]."""
    words = words.contiguous()
    floating = _contiguous(noisy, weight1, bias1, weight2, bias2)
    if _takes_triton(backend, noisy, weight1):
        from dropdrift.kernels.denoiser import triton_forward

        return triton_forward.denoise_forward(words, *floating, activation, save_hidden)
    return row_blocks.denoise_forward(words, *floating, activation, save_hidden)


@_denoise.register_fake
def _fake_denoised(
    words: Tensor,
    noisy: Tensor,
    weight1: Tensor,
    bias1: Tensor,
    weight2: Tensor,
    bias2: Tensor,
    activation: str,
    save_hidden: bool,
    backend: str,
) -> tuple[Tensor, Tensor]:
    del words, bias1, weight2, bias2, activation, backend
    return noisy.new_empty(noisy.shape), _fake_hidden(noisy, weight1, save_hidden)


@torch.library.custom_op("dropdrift::drop_and_denoise", mutates_args=())
def _drop_and_denoise(
    missing: Tensor,
    noisy: Tensor,
    weight1: Tensor,
    bias1: Tensor,
    weight2: Tensor,
    bias2: Tensor,
    seed: int,
    step: int,
    first_row: int,
    max_rate: float,
    rate: float | None,
    activation: str,
    save_hidden: bool,
    backend: str,
) -> tuple[Tensor, Tensor, Tensor]:
    """z_0', the words, and the hidden layer as of ``_denoise``."""
    draw = (seed, step, first_row, max_rate, rate)
    floating = _contiguous(noisy, weight1, bias1, weight2, bias2)
    if _takes_triton(backend, noisy, weight1):
        from dropdrift.kernels.denoiser import triton_drop_and_denoise

        out, hidden, words = triton_drop_and_denoise.drop_and_denoise_forward(
            missing.contiguous(), *floating, activation, save_hidden, *draw
        )
        return out, words, hidden
    words = _draw_words(missing, weight1.shape[1] - noisy.shape[1], *draw, backend="torch")
    out, hidden = row_blocks.denoise_forward(words, *floating, activation, save_hidden)
    return out, words, hidden


@_drop_and_denoise.register_fake
def _fake_dropped_and_denoised(
    missing: Tensor,
    noisy: Tensor,
    weight1: Tensor,
    bias1: Tensor,
    weight2: Tensor,
    bias2: Tensor,
    seed: int,
    step: int,
    first_row: int,
    max_rate: float,
    rate: float | None,
    activation: str,
    save_hidden: bool,
    backend: str,
) -> tuple[Tensor, Tensor, Tensor]:
    del bias1, weight2, bias2, seed, step, first_row, max_rate, rate, activation, backend
    words, hidden = missing.new_empty(missing.shape), _fake_hidden(noisy, weight1, save_hidden)
    return noisy.new_empty(noisy.shape), words, hidden


@torch.library.custom_op("dropdrift::denoise_backward", mutates_args=())
def _denoise_backward(
    grad: Tensor,
    words: Tensor,
    noisy: Tensor,
    weight1: Tensor,
    bias1: Tensor,
    weight2: Tensor,
    hidden: Tensor | None,
    activation: str,
    backend: str,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of z_T, W1, b1, W2 and b2; ``hidden``: what the forward kept."""
    grad, words, noisy = grad.contiguous(), words.contiguous(), noisy.contiguous()
    weight1, bias1, weight2 = weight1.contiguous(), bias1.contiguous(), weight2.contiguous()
    tensors = (grad, words, noisy, weight1, bias1, weight2, hidden)
    if _takes_triton(backend, noisy, weight1):
        from dropdrift.kernels.denoiser import triton_backward

        return triton_backward.denoise_backward(*tensors, activation)
    return row_blocks.denoise_backward(*tensors, activation)


@_denoise_backward.register_fake
def _fake_gradients(
    grad: Tensor,
    words: Tensor,
    noisy: Tensor,
    weight1: Tensor,
    bias1: Tensor,
    weight2: Tensor,
    hidden: Tensor | None,
    activation: str,
    backend: str,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    del grad, words, hidden, activation, backend
    shapes = (noisy.shape, weight1.shape, bias1.shape, weight2.shape, noisy.shape[1:])
    d_noisy, d_weight1, d_bias1, d_weight2, d_bias2 = map(noisy.new_empty, shapes)
    return d_noisy, d_weight1, d_bias1, d_weight2, d_bias2


def _keep_denoised(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    """For the backward of ``_denoise``: its arguments, and the hidden layer if it is to be kept."""
    words, noisy, weight1, bias1, weight2, _, ctx.activation, save_hidden, ctx.backend = inputs
    _, hidden = output
    ctx.mark_non_differentiable(hidden)
    ctx.set_materialize_grads(False)
    kept = (hidden,) if save_hidden else ()
    ctx.save_for_backward(words, noisy, weight1, bias1, weight2, *kept)


def _keep_dropped_and_denoised(
    ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]
) -> None:
    """The same of ``_drop_and_denoise``, with the words that it made."""
    _, noisy, weight1, bias1, weight2, _, *_, ctx.activation, save_hidden, ctx.backend = inputs
    _, words, hidden = output
    ctx.mark_non_differentiable(words, hidden)
    ctx.set_materialize_grads(False)
    kept = (hidden,) if save_hidden else ()
    ctx.save_for_backward(words, noisy, weight1, bias1, weight2, *kept)


def _gradients(ctx: Any, grad: Tensor, *_: None) -> tuple[Tensor | None, ...]:
    """One gradient for each argument of either operator; most of them have none."""
    *tensors, hidden = (*ctx.saved_tensors, None)[:6]
    gradients = _denoise_backward(grad, *tensors, hidden, ctx.activation, ctx.backend)
    return (None, *gradients, *(None for _ in range(len(ctx.needs_input_grad) - 6)))


_denoise.register_autograd(_gradients, setup_context=_keep_denoised)
_drop_and_denoise.register_autograd(_gradients, setup_context=_keep_dropped_and_denoised)


def _fake_hidden(noisy: Tensor, weight1: Tensor, save_hidden: bool) -> Tensor:
    return noisy.new_empty(noisy.shape[0] if save_hidden else 0, weight1.shape[0])


def _takes_triton(requested: str, noisy: Tensor, weight1: Tensor) -> bool:
    if requested == "reference":
        raise ValueError("backend is 'reference', which only dropdrift.kernels.denoiser runs")
    rows, width = noisy.shape
    hidden, columns = weight1.shape
    sizes = (columns - width, width, hidden)
    chosen = resolve_backend(
        requested,
        noisy,
        out_of_range=out_of_range(*sizes),
        triton_is_faster=noisy.is_cuda and triton_is_faster(rows, *sizes, noisy.dtype),
    )
    return chosen == "triton"


def _draw_words(
    missing: Tensor,
    fields: int,
    seed: int,
    step: int,
    first_row: int,
    max_rate: float,
    rate: float | None,
    backend: str,
) -> Tensor:
    return drop_words(
        missing,
        fields,
        seed=seed,
        step=step,
        first_row=first_row,
        max_rate=max_rate,
        rate=rate,
        backend=backend,
    )


def _cast_under_autocast(*tensors: *Floating) -> Floating:
    device = tensors[0].device.type
    if not torch.is_autocast_enabled(device):
        return tensors
    dtype = torch.get_autocast_dtype(device)
    noisy, weight1, bias1, weight2, bias2 = (
        tensor if tensor.dtype == torch.float64 else tensor.to(dtype) for tensor in tensors
    )
    return noisy, weight1, bias1, weight2, bias2


def _contiguous(*tensors: *Floating) -> Floating:
    noisy, weight1, bias1, weight2, bias2 = (tensor.contiguous() for tensor in tensors)
    return noisy, weight1, bias1, weight2, bias2

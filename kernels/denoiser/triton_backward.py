"""The denoiser's backward in Triton: along the rows here, then the gradients of the weights.

Three launches whatever the number of rows. ``hidden_gradients_kernel`` leaves the hidden layer and
its gradient in memory, from which ``triton_weight_gradients.py`` makes the gradients of the
weights: one kernel for all of it would have to keep those in registers, which spilled with every
tile that was tried.

Legend: B rows, N fields, W mask words, Z width of z, H hidden units; a tile has R rows, U hidden
units and C columns (Z up to a power of two), and s comes in chunks of at most K fields.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from dropdrift.kernels.denoiser.backward_tiles import row_tile
from dropdrift.kernels.denoiser.tiles import Tile, capability_of, input_precision
from dropdrift.kernels.denoiser.triton_tiles import (
    activation,
    activation_derivative,
    latent_weight_tile,
    padded,
    pre_activation_tile,
    step_chunks,
)
from dropdrift.kernels.denoiser.triton_weight_gradients import weight_gradients
from dropdrift.kernels.specimen import Specimen

# Of the kernel's arguments, those in the type of the inputs.
_POINTERS = (
    "grad",
    "noisy",
    "weight1",
    "bias1",
    "weight2",
    "saved",
    "noisy_grad",
    "hidden",
    "hidden_grad",
)

Gradients = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]


@triton.jit
def saved_tile(
    saved: tl.tensor,
    row: tl.tensor,
    valid: tl.tensor,
    weight1: tl.tensor,
    unit: tl.tensor,
    FIELDS: tl.constexpr,
    WIDTH: tl.constexpr,
    HIDDEN: tl.constexpr,
) -> tl.tuple:
    """What ``pre_activation_tile`` returns, with pre read from ``saved`` [B, H]."""
    place = row[:, None] * HIDDEN + unit[None, :]
    inside = valid[:, None] & (unit < HIDDEN)[None, :]
    pre = tl.load(saved + place, mask=inside, other=0.0).to(tl.float32)
    return pre, latent_weight_tile(weight1, unit, FIELDS, WIDTH, HIDDEN)


@triton.jit
def activation_gradient_tile(
    dy: tl.tensor,
    weight2: tl.tensor,
    unit: tl.tensor,
    WIDTH: tl.constexpr,
    HIDDEN: tl.constexpr,
    PRECISION: tl.constexpr,
) -> tl.tensor:
    """The upstream gradient of act(pre), dy W2: fp32 [R, U] from dy [R, C] and W2 [Z, H]."""
    column = tl.arange(0, dy.shape[1])
    inside = (column < WIDTH)[:, None] & (unit < HIDDEN)[None, :]
    place = column[:, None] * HIDDEN + unit[None, :]
    weight = tl.load(weight2 + place, mask=inside, other=0.0)
    return tl.dot(dy, weight, input_precision=PRECISION)


@triton.jit(do_not_specialize=["rows"])
def hidden_gradients_kernel(
    grad: tl.tensor,
    words: tl.tensor,
    noisy: tl.tensor,
    weight1: tl.tensor,
    bias1: tl.tensor,
    weight2: tl.tensor,
    saved: tl.tensor,
    noisy_grad: tl.tensor,
    hidden: tl.tensor,
    hidden_grad: tl.tensor,
    rows: tl.tensor,
    FIELDS: tl.constexpr,
    WIDTH: tl.constexpr,
    HIDDEN: tl.constexpr,
    ACTIVATION: tl.constexpr,
    BLOCK_ROWS: tl.constexpr,
    BLOCK_HIDDEN: tl.constexpr,
    BLOCK_FIELDS: tl.constexpr,
    PRECISION: tl.constexpr,
) -> None:
    """Store dpre = (dy W2) * act'(pre), dz = dpre W1z and act(pre) of R rows.

    pre = W1 [s, z] + b1 is computed again, or read where ``saved`` is not None. In 16 bits a row
    costs 6 Z + 4 W + 4 H bytes of memory, or 4 Z + 6 H with pre saved: 1,820 or 2,048 bytes at
    N = 200, Z = 128, H = 256. The weights come from the L2 cache, once for every R rows.
    """
    row = tl.program_id(0).to(tl.int64) * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)
    valid = row < rows
    column = tl.arange(0, padded(WIDTH))
    place = row[:, None] * WIDTH + column[None, :]
    inside = valid[:, None] & (column < WIDTH)[None, :]
    dy = tl.load(grad + place, mask=inside, other=0.0)
    if saved is None:
        z = tl.load(noisy + place, mask=inside, other=0.0)
        s = step_chunks(words, row, valid, FIELDS, BLOCK_FIELDS, dy.dtype)
    dz = tl.zeros(dy.shape, dtype=tl.float32)
    for first in tl.range(0, HIDDEN, BLOCK_HIDDEN):
        unit = first + tl.arange(0, BLOCK_HIDDEN)
        if saved is None:
            pre, latent = pre_activation_tile(
                z, s, weight1, bias1, unit, FIELDS, WIDTH, HIDDEN, BLOCK_FIELDS, PRECISION
            )
        else:
            pre, latent = saved_tile(saved, row, valid, weight1, unit, FIELDS, WIDTH, HIDDEN)
        dpost = activation_gradient_tile(dy, weight2, unit, WIDTH, HIDDEN, PRECISION)
        dpre = (dpost * activation_derivative(pre, ACTIVATION)).to(dy.dtype)
        at = row[:, None] * HIDDEN + unit[None, :]
        there = valid[:, None] & (unit < HIDDEN)[None, :]
        tl.store(hidden + at, activation(pre, ACTIVATION).to(dy.dtype), mask=there)
        tl.store(hidden_grad + at, dpre, mask=there)
        dz = tl.dot(dpre, tl.trans(latent), dz, input_precision=PRECISION)
    tl.store(noisy_grad + place, dz.to(dy.dtype), mask=inside)


def denoise_backward(
    grad: Tensor,
    words: Tensor,
    noisy: Tensor,
    weight1: Tensor,
    bias1: Tensor,
    weight2: Tensor,
    saved: Tensor | None,
    activation: str,
) -> Gradients:
    """Launch the kernels: the gradients of z_T, W1, b1, W2 and b2, in their types.

    Args:
        grad: dy, [B, Z].
        words: int32 [B, W], contiguous, like the rest but ``grad``.
        noisy: z_T, [B, Z].
        weight1: W1, [H, N + Z].
        bias1: b1, [H].
        weight2: W2, [Z, H].
        saved: the pre-activations [B, H] that the forward kept; None: they are computed again.
        activation: "relu", "silu" or "gelu".
    """
    (rows, width), (hidden_units, inputs) = noisy.shape, weight1.shape
    fields = inputs - width
    if rows == 0:
        d_weight1, d_bias1, d_weight2 = map(torch.zeros_like, (weight1, bias1, weight2))
        return torch.empty_like(noisy), d_weight1, d_bias1, d_weight2, noisy.new_zeros(width)
    grad = grad.contiguous()  # that of a sum is one number, expanded
    capability, precision = capability_of(noisy), input_precision(noisy.dtype)
    itemsize, again = noisy.element_size(), saved is None
    tile = row_tile(fields, width, itemsize, capability, precision, saved=not again)
    d_noisy = torch.empty_like(noisy)
    hidden, d_hidden = (noisy.new_empty(rows, hidden_units) for _ in range(2))
    with torch.cuda.device_of(noisy):  # type: ignore[no-untyped-call]  # torch
        hidden_gradients_kernel[(triton.cdiv(rows, tile.rows),)](
            grad,
            words,
            noisy,
            weight1,
            bias1,
            weight2,
            saved,
            d_noisy,
            hidden,
            d_hidden,
            rows,
            **_constants(fields, width, hidden_units, activation, precision, tile),
            num_warps=tile.warps,
            num_stages=tile.stages,
        )
        weights = weight_gradients(
            grad, words, noisy, hidden, d_hidden, fields, capability, precision
        )
    return d_noisy, *weights


def specimens(capability: int) -> list[Specimen]:
    """Both modes at the usual sizes in bf16, and the largest; the smallest in fp16; exact fp32."""
    return [
        _specimen(capability, "bf16", 200, 128, 256, "relu", saved=False),
        _specimen(capability, "bf16", 200, 128, 512, "gelu", saved=False),
        _specimen(capability, "bf16", 200, 128, 256, "silu", saved=True),
        _specimen(capability, "bf16", 512, 256, 1024, "gelu", saved=False),
        _specimen(capability, "fp16", 1, 16, 32, "relu", saved=False),
        _specimen(capability, "fp32", 200, 128, 256, "relu", saved=False),
    ]


def _specimen(
    capability: int,
    dtype: str,
    fields: int,
    width: int,
    hidden: int,
    activation: str,
    *,
    saved: bool,
) -> Specimen:
    exact = dtype == "fp32"
    tile = row_tile(fields, width, 4 if exact else 2, capability, "ieee", saved=saved)
    pointers = dict.fromkeys(_POINTERS, f"*{dtype}") | {"words": "*i32"}
    constants = _constants(fields, width, hidden, activation, "ieee", tile)
    if not saved:
        del pointers["saved"]
        constants["saved"] = None
    mode = "saved" if saved else "recomputed"
    size = f"n{fields} z{width} h{hidden}"
    return Specimen(
        name=f"hidden_gradients {dtype} {size} {activation} {mode} sm_{capability}",
        kernel=hidden_gradients_kernel,
        arguments=pointers | {"rows": "i32"},
        constants=constants,
        divisible=tuple(pointers),
        capability=capability,
        warps=tile.warps,
        stages=tile.stages,
        tensor_cores=not exact,
    )


def _constants(
    fields: int, width: int, hidden: int, activation: str, precision: str, tile: Tile
) -> dict[str, Any]:
    return {
        "FIELDS": fields,
        "WIDTH": width,
        "HIDDEN": hidden,
        "ACTIVATION": activation,
        "PRECISION": precision,
        "BLOCK_ROWS": tile.rows,
        "BLOCK_HIDDEN": tile.hidden,
        "BLOCK_FIELDS": tile.fields,
    }

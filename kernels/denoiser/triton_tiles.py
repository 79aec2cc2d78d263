"""Device functions that the denoiser's kernels share: tiles of s, z and the hidden layer.

Legend: B rows, N fields, W mask words, Z width of z, H hidden units; a tile has R rows, U hidden
units, C columns (Z up to a power of two) and K fields. All sizes that a model fixes are constants,
so that the compiler knows how far W1's rows and columns are aligned: it loads 16 bytes at a time
wherever N and N + Z allow it.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def activation(x: tl.tensor, KIND: tl.constexpr) -> tl.tensor:
    """act(x), fp32: ``KIND`` is "relu", "silu" or "gelu" (with erf). NaN stays NaN."""
    if KIND == "relu":
        y = tl.maximum(x, 0.0, propagate_nan=tl.PropagateNan.ALL)
    elif KIND == "silu":
        y = x * tl.sigmoid(x)
    else:
        y = 0.5 * x * (1.0 + tl.erf(x * 0.7071067811865476))
    return y


@triton.jit
def activation_derivative(x: tl.tensor, KIND: tl.constexpr) -> tl.tensor:
    """act'(x), fp32; relu' is 0 at 0."""
    if KIND == "relu":
        slope = tl.where(x > 0.0, 1.0, 0.0)
    elif KIND == "silu":
        gate = tl.sigmoid(x)
        slope = gate * (1.0 + x * (1.0 - gate))
    else:
        density = 0.3989422804014327 * tl.exp(-0.5 * x * x)
        slope = 0.5 * (1.0 + tl.erf(x * 0.7071067811865476)) + x * density
    return slope


@triton.jit
def unpacked_tile(words: tl.tensor, DTYPE: tl.constexpr) -> tl.tensor:
    """Columns of s as 0 and 1 of ``DTYPE``: int32 words [R, K / 32] to [R, K]."""
    bits = (words[:, :, None] >> tl.arange(0, 32)[None, None, :]) & 1
    return tl.reshape(bits, (words.shape[0], words.shape[1] * 32)).to(DTYPE)


@triton.jit
def step_tile(
    words: tl.tensor,
    row: tl.tensor,
    valid: tl.tensor,
    FIRST_FIELD: tl.constexpr,
    FIELDS: tl.constexpr,
    BLOCK_FIELDS: tl.constexpr,
    DTYPE: tl.constexpr,
) -> tl.tensor:
    """K columns of s from words [B, W]: [R, K] of 0 and 1.

    Args:
        words: pointer to int32 [B, W].
        row: int64 [R].
        valid: bool [R], row < B; the other rows are 0.
        FIRST_FIELD: the first column's field, a multiple of 32.
        FIELDS: N; columns beyond field N - 1 are 0, as the words' unused bits are.
        BLOCK_FIELDS: K, 32 times a power of two.
        DTYPE: type of the result.
    """
    WORDS: tl.constexpr = (FIELDS + 31) // 32
    word = FIRST_FIELD // 32 + tl.arange(0, BLOCK_FIELDS // 32)
    there = valid[:, None] & (word < WORDS)[None, :]
    packed = tl.load(words + row[:, None] * WORDS + word[None, :], mask=there, other=0)
    return unpacked_tile(packed, DTYPE)


@triton.jit
def pre_activation_tile(
    z: tl.tensor,
    s: tl.tuple,
    weight1: tl.tensor,
    bias1: tl.tensor,
    unit: tl.tensor,
    FIELDS: tl.constexpr,
    WIDTH: tl.constexpr,
    HIDDEN: tl.constexpr,
    BLOCK_FIELDS: tl.constexpr,
    PRECISION: tl.constexpr,
) -> tl.tuple:
    """(pre, W1z^T) of some hidden units: pre = z W1z^T + s W1s^T + b1.

    Args:
        z: [R, C], 0 beyond column Z - 1.
        s: the :func:`step_tile` [R, K] of fields 0.., K.., 2 K.. up to the last.
        weight1: pointer to W1 [H, N + Z], which is read in place.
        bias1: pointer to b1 [H].
        unit: int32 [U], the hidden units.
        FIELDS: N.
        WIDTH: Z.
        HIDDEN: H; pre is 0 for units beyond H - 1.
        BLOCK_FIELDS: K.
        PRECISION: input precision of fp32 products, "ieee" or "tf32".

    Returns:
        pre, fp32 [R, U], and W1z^T [C, U], which the backward multiplies once more.
    """
    column = tl.arange(0, z.shape[1])
    real = unit < HIDDEN
    weight = weight1 + unit[None, :] * (FIELDS + WIDTH)
    inside = (column < WIDTH)[:, None] & real[None, :]
    latent = tl.load(weight + FIELDS + column[:, None], mask=inside, other=0.0)
    bias = tl.load(bias1 + unit, mask=real, other=0.0).to(tl.float32)
    pre = tl.zeros((z.shape[0], unit.shape[0]), dtype=tl.float32) + bias[None, :]
    pre = tl.dot(z, latent, pre, input_precision=PRECISION)
    for chunk in tl.static_range((FIELDS + BLOCK_FIELDS - 1) // BLOCK_FIELDS):
        field = chunk * BLOCK_FIELDS + tl.arange(0, BLOCK_FIELDS)
        inside = (field < FIELDS)[:, None] & real[None, :]
        step = tl.load(weight + field[:, None], mask=inside, other=0.0)
        pre = tl.dot(s[chunk], step, pre, input_precision=PRECISION)
    return pre, latent

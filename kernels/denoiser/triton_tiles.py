"""Device functions that the denoiser's kernels share: tiles of s, z and the hidden layer.

Legend: B rows, N fields, W mask words, Z width of z, H hidden units; a tile has R rows, U hidden
units and C columns (Z up to a power of two), and s comes in chunks of at most K fields. All sizes
that a model fixes are constants, so that the compiler knows how far W1's rows and columns are
aligned: it loads 16 bytes at a time wherever N and N + Z allow it.
"""

from __future__ import annotations

import triton
import triton.language as tl

from dropdrift.kernels.denoiser import tiles

chunk_fields = triton.constexpr_function(tiles.chunk_fields)
padded = triton.constexpr_function(tiles.padded)


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


@triton.constexpr_function
def one_bits(dtype: tl.dtype) -> int:
    """The bits of 1.0."""
    return {"bf16": 0x3F80, "fp16": 0x3C00, "fp32": 0x3F800000}[dtype.name]


@triton.constexpr_function
def same_size_int(dtype: tl.dtype) -> tl.dtype:
    """The integer type of a floating-point type's size."""
    return tl.int32 if dtype.primitive_bitwidth == 32 else tl.int16


@triton.jit
def unpacked_tile(packed: tl.tensor, DTYPE: tl.constexpr) -> tl.tensor:
    """Columns of s as 0 and 1 of ``DTYPE``: bytes of its words, int32 [R, K / 8], to [R, K].

    A byte is halved three times within its thread. So a thread ends with eight columns side by
    side, which go to shared memory in one store of 16 bytes; unpacked by broadcasting, neighbouring
    columns lie in different threads and each goes alone.
    """
    bits = tl.join(packed, packed >> 4)
    bits = tl.join(bits, bits >> 2)
    bits = tl.join(bits, bits >> 1)
    # Reshaped before the last step: Triton 3.7.1 fails on a reshape right before wgmma in tf32.
    bits = tl.reshape(bits, (packed.shape[0], packed.shape[1] * 8)) & 1
    # Not .to(DTYPE), which converts one at a time.
    return (bits * one_bits(DTYPE)).to(same_size_int(DTYPE)).to(DTYPE, bitcast=True)


@triton.jit
def step_chunk(
    words: tl.tensor,
    row: tl.tensor,
    valid: tl.tensor,
    FIRST_FIELD: tl.constexpr,
    FIELDS: tl.constexpr,
    BLOCK_FIELDS: tl.constexpr,
    DTYPE: tl.constexpr,
) -> tl.tensor:
    """The chunk of s from ``FIRST_FIELD`` on: see :func:`step_chunks`."""
    size: tl.constexpr = chunk_fields(FIELDS, FIRST_FIELD, BLOCK_FIELDS)
    row_bytes: tl.constexpr = (FIELDS + 31) // 32 * 4
    byte = FIRST_FIELD // 8 + tl.arange(0, size // 8)
    place = words.to(tl.pointer_type(tl.int8)) + row[:, None] * row_bytes + byte[None, :]
    there = valid[:, None] & (byte < row_bytes)[None, :]
    return unpacked_tile(tl.load(place, mask=there, other=0).to(tl.int32), DTYPE)


@triton.jit
def step_chunks(
    words: tl.tensor,
    row: tl.tensor,
    valid: tl.tensor,
    FIELDS: tl.constexpr,
    BLOCK_FIELDS: tl.constexpr,
    DTYPE: tl.constexpr,
) -> tl.tuple:
    """The rows of s as 0 and 1, in chunks of K fields; the last may be shorter.

    Args:
        words: pointer to int32 [B, W].
        row: int64 [R].
        valid: bool [R], row < B; the other rows are 0.
        FIELDS: N; columns beyond field N - 1 are the words' unused bits.
        BLOCK_FIELDS: K, 32 times a power of two.
        DTYPE: type of the chunks.

    Returns:
        [R, K] and the like, as many as N fields need: for :func:`pre_activation_tile`. Made before
        a loop over hidden units, they stay on chip through it.
    """
    chunks: tl.tuple = ()
    for first in tl.static_range(0, FIELDS, BLOCK_FIELDS):
        chunk = step_chunk(words, row, valid, first, FIELDS, BLOCK_FIELDS, DTYPE)
        chunks = chunks + (chunk,)  # noqa: RUF005 - Triton adds tuples, it does not unpack them
    return chunks


@triton.jit
def latent_weight_tile(
    weight1: tl.tensor,
    unit: tl.tensor,
    FIELDS: tl.constexpr,
    WIDTH: tl.constexpr,
    HIDDEN: tl.constexpr,
) -> tl.tensor:
    """W1z^T [C, U] of hidden units [U], read from W1 [H, N + Z]; 0 beyond Z and H."""
    column = tl.arange(0, padded(WIDTH))
    place = weight1 + unit[None, :] * (FIELDS + WIDTH) + FIELDS + column[:, None]
    return tl.load(place, mask=(column < WIDTH)[:, None] & (unit < HIDDEN)[None, :], other=0.0)


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
        s: :func:`step_chunks` of the same rows.
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
    real = unit < HIDDEN
    weight = weight1 + unit[None, :] * (FIELDS + WIDTH)
    latent = latent_weight_tile(weight1, unit, FIELDS, WIDTH, HIDDEN)
    bias = tl.load(bias1 + unit, mask=real, other=0.0).to(tl.float32)
    pre = tl.broadcast_to(bias[None, :], (z.shape[0], unit.shape[0]))
    pre = tl.dot(z, latent, pre, input_precision=PRECISION)
    for first in tl.static_range(0, FIELDS, BLOCK_FIELDS):
        field = first + tl.arange(0, chunk_fields(FIELDS, first, BLOCK_FIELDS))
        inside = (field < FIELDS)[:, None] & real[None, :]
        step = tl.load(weight + field[:, None], mask=inside, other=0.0)
        pre = tl.dot(s[first // BLOCK_FIELDS], step, pre, input_precision=PRECISION)
    return pre, latent

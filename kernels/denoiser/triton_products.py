"""Device functions of the weights' gradients: tiles of X^T Y, summed over rows one after the other.

Legend: B rows, N fields, W mask words, Z width of z, H hidden units. A tile has U hidden units and
K fields or C columns of z; it takes R rows in one step.
"""

from __future__ import annotations

import triton
import triton.language as tl

from dropdrift.kernels.denoiser.triton_tiles import unpacked_tile


@triton.jit
def latent_product(
    x: tl.tensor,
    y: tl.tensor,
    count: tl.tensor,
    unit: tl.tensor,
    column: tl.tensor,
    WIDTH: tl.constexpr,
    HIDDEN: tl.constexpr,
    BLOCK_ROWS: tl.constexpr,
    PRECISION: tl.constexpr,
) -> tl.tensor:
    """A tile of X^T Y, fp32 [U, C].

    Args:
        x: pointer to X [``count``, H].
        y: pointer to Y [``count``, Z].
        count: rows to sum over.
        unit: int32 [U], columns of X.
        column: int32 [C], columns of Y.
        WIDTH: Z.
        HIDDEN: H.
        BLOCK_ROWS: R.
        PRECISION: input precision of fp32 products, "ieee" or "tf32".
    """
    row = tl.arange(0, BLOCK_ROWS)
    # X is read as X^T: on sm_80 a load is pipelined only if it has the product's orientation.
    x_place = row[None, :] * HIDDEN + unit[:, None]
    y_place = row[:, None] * WIDTH + column[None, :]
    total = tl.zeros((unit.shape[0], column.shape[0]), dtype=tl.float32)
    for first in tl.range(0, count, BLOCK_ROWS):
        there = row < count - first
        x_tile = tl.load(x + x_place, mask=there[None, :] & (unit < HIDDEN)[:, None], other=0.0)
        y_tile = tl.load(y + y_place, mask=there[:, None] & (column < WIDTH)[None, :], other=0.0)
        total = tl.dot(x_tile, y_tile, total, input_precision=PRECISION)
        x += BLOCK_ROWS * HIDDEN
        y += BLOCK_ROWS * WIDTH
    return total


@triton.jit
def step_product(
    x: tl.tensor,
    words: tl.tensor,
    count: tl.tensor,
    unit: tl.tensor,
    byte: tl.tensor,
    FIELDS: tl.constexpr,
    HIDDEN: tl.constexpr,
    BLOCK_ROWS: tl.constexpr,
    PRECISION: tl.constexpr,
) -> tl.tensor:
    """A tile of X^T [s, 1], fp32 [U, K]; column N belongs to a bit that is always set.

    Args:
        x: pointer to X [``count``, H].
        words: pointer to int32 [``count``, W].
        count: rows to sum over.
        unit: int32 [U], columns of X.
        byte: int32 [K / 8], bytes of a row's words; N // 8 holds the bit that is always set.
        FIELDS: N.
        HIDDEN: H.
        BLOCK_ROWS: R.
        PRECISION: input precision of fp32 products, "ieee" or "tf32".
    """
    row_bytes: tl.constexpr = (FIELDS + 31) // 32 * 4
    row = tl.arange(0, BLOCK_ROWS)
    x_place = row[None, :] * HIDDEN + unit[:, None]
    packed = words.to(tl.pointer_type(tl.int8)) + row[:, None] * row_bytes + byte[None, :]
    always = tl.where(byte == FIELDS // 8, 1 << (FIELDS % 8), 0)
    total = tl.zeros((unit.shape[0], byte.shape[0] * 8), dtype=tl.float32)
    for first in tl.range(0, count, BLOCK_ROWS):
        there = row < count - first
        x_tile = tl.load(x + x_place, mask=there[None, :] & (unit < HIDDEN)[:, None], other=0.0)
        inside = there[:, None] & (byte < row_bytes)[None, :]
        bits = tl.load(packed, mask=inside, other=0).to(tl.int32) | always[None, :]
        s_tile = unpacked_tile(bits, x_tile.dtype)
        total = tl.dot(x_tile, s_tile, total, input_precision=PRECISION)
        x += BLOCK_ROWS * HIDDEN
        packed += BLOCK_ROWS * row_bytes
    return total


@triton.jit
def column_sum(
    y: tl.tensor,
    count: tl.tensor,
    column: tl.tensor,
    WIDTH: tl.constexpr,
    BLOCK_ROWS: tl.constexpr,
) -> tl.tensor:
    """Sums of columns of Y, fp32 [C].

    Args:
        y: pointer to Y [``count``, Z].
        count: rows to sum over.
        column: int32 [C], columns of Y.
        WIDTH: Z.
        BLOCK_ROWS: R.
    """
    row = tl.arange(0, BLOCK_ROWS)
    place = row[:, None] * WIDTH + column[None, :]
    total = tl.zeros((BLOCK_ROWS, column.shape[0]), dtype=tl.float32)
    for first in tl.range(0, count, BLOCK_ROWS):
        there = (row < count - first)[:, None] & (column < WIDTH)[None, :]
        total += tl.load(y + place, mask=there, other=0.0).to(tl.float32)
        y += BLOCK_ROWS * WIDTH
    return tl.sum(total, axis=0)

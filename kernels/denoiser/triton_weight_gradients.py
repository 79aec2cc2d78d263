"""Gradients of the denoiser's weights: X^T Y over all rows, split into parts, in a fixed order.

The hidden layer's gradient dpre [B, H] and its activations act [B, H] are there when these kernels
run (``triton_backward.py``). Parts of the rows are summed by programs of their own, each into its
own part of a workspace, and the parts are then added one after the other: no atomics, so the same
inputs give the same bits.

Legend: B rows, N fields, W mask words, Z width of z, H hidden units. A tile of a product has R
rows, U hidden units and either K fields or C columns of z.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from dropdrift.kernels.denoiser.backward_tiles import (
    ADD_BLOCK,
    ADD_WARPS,
    WeightTile,
    rows_of_part,
    weight_tile,
)
from dropdrift.kernels.denoiser.triton_products import column_sum, latent_product, step_product
from dropdrift.kernels.specimen import Specimen


@triton.jit
def store_step_tile(
    out: tl.tensor,
    sums: tl.tensor,
    unit: tl.tensor,
    field: tl.tensor,
    FIELDS: tl.constexpr,
    WIDTH: tl.constexpr,
    HIDDEN: tl.constexpr,
) -> None:
    """Store columns ``field`` [K] of [dW1s, db1], fp32 [U, K], into a part's gradients ``out``."""
    there = unit < HIDDEN
    place = unit[:, None] * (FIELDS + WIDTH) + field[None, :]
    tl.store(out + place, sums, mask=there[:, None] & (field < FIELDS)[None, :])
    if tl.sum((field == FIELDS).to(tl.int32)) > 0:
        bias_sums = tl.sum(tl.where((field == FIELDS)[None, :], sums, 0.0), axis=1)
        tl.store(out + HIDDEN * (FIELDS + WIDTH) + unit, bias_sums, mask=there)


@triton.jit
def store_latent_tile(
    out: tl.tensor,
    sums: tl.tensor,
    unit: tl.tensor,
    column: tl.tensor,
    of_weight1: tl.tensor,
    FIELDS: tl.constexpr,
    WIDTH: tl.constexpr,
    HIDDEN: tl.constexpr,
) -> None:
    """Store a tile of dW1z or dW2^T, fp32 [U, C], into a part's gradients ``out``."""
    inside = (unit < HIDDEN)[:, None] & (column < WIDTH)[None, :]
    # Two stores and not one with two strides: each is then known to be contiguous along one axis.
    if of_weight1:
        place = unit[:, None] * (FIELDS + WIDTH) + FIELDS + column[None, :]
        tl.store(out + place, sums, mask=inside)
    else:
        weight2 = out + HIDDEN * (FIELDS + WIDTH) + HIDDEN
        tl.store(weight2 + column[None, :] * HIDDEN + unit[:, None], sums, mask=inside)


@triton.jit(do_not_specialize=["rows", "part_rows"])
def weight_gradients_kernel(
    hidden_grad: tl.tensor,
    hidden: tl.tensor,
    words: tl.tensor,
    noisy: tl.tensor,
    grad: tl.tensor,
    workspace: tl.tensor,
    rows: tl.tensor,
    part_rows: tl.tensor,
    FIELDS: tl.constexpr,
    WIDTH: tl.constexpr,
    HIDDEN: tl.constexpr,
    BLOCK_ROWS: tl.constexpr,
    BLOCK_HIDDEN: tl.constexpr,
    BLOCK_FIELDS: tl.constexpr,
    BLOCK_WIDTH: tl.constexpr,
    PRECISION: tl.constexpr,
) -> None:
    """A tile of [dW1s, db1] = dpre^T [s, 1], dW1z = dpre^T z, dW2^T = act^T dy or db2 = sum of dy.

    Over ``part_rows`` rows, into this part of the fp32 workspace, which holds dW1 [H, N + Z],
    db1 [H], dW2 [Z, H] and db2 [Z] one after the other. The tiles of a part run side by side and
    read the same rows: a row costs 4 H + 4 Z + 4 W bytes of memory in 16 bits (1,564 at N = 200,
    Z = 128, H = 256) as long as the L2 cache serves all tiles but the first.
    """
    UNIT_TILES: tl.constexpr = (HIDDEN + BLOCK_HIDDEN - 1) // BLOCK_HIDDEN
    STEP_TILES: tl.constexpr = FIELDS // BLOCK_FIELDS + 1
    WIDTH_TILES: tl.constexpr = (WIDTH + BLOCK_WIDTH - 1) // BLOCK_WIDTH
    TILES: tl.constexpr = UNIT_TILES * (STEP_TILES + 2 * WIDTH_TILES)
    PART: tl.constexpr = HIDDEN * (FIELDS + WIDTH) + HIDDEN + WIDTH * HIDDEN + WIDTH
    number = tl.program_id(0)
    part = tl.program_id(1).to(tl.int64)
    row = part * part_rows
    count = tl.minimum(part_rows, rows - row).to(tl.int32)
    out = workspace + part * PART
    unit = number % UNIT_TILES * BLOCK_HIDDEN + tl.arange(0, BLOCK_HIDDEN)
    tile = number // UNIT_TILES
    if tile < STEP_TILES:
        byte = tile * (BLOCK_FIELDS // 8) + tl.arange(0, BLOCK_FIELDS // 8)
        x = hidden_grad + row * HIDDEN
        packed = words + row * ((FIELDS + 31) // 32)
        sums = step_product(x, packed, count, unit, byte, FIELDS, HIDDEN, BLOCK_ROWS, PRECISION)
        field = tile * BLOCK_FIELDS + tl.arange(0, BLOCK_FIELDS)
        store_step_tile(out, sums, unit, field, FIELDS, WIDTH, HIDDEN)
    elif number < TILES:
        of_weight1 = tile < STEP_TILES + WIDTH_TILES
        x = (hidden_grad if of_weight1 else hidden) + row * HIDDEN
        y = (noisy if of_weight1 else grad) + row * WIDTH
        column = (tile - STEP_TILES) % WIDTH_TILES * BLOCK_WIDTH + tl.arange(0, BLOCK_WIDTH)
        sums = latent_product(x, y, count, unit, column, WIDTH, HIDDEN, BLOCK_ROWS, PRECISION)
        store_latent_tile(out, sums, unit, column, of_weight1, FIELDS, WIDTH, HIDDEN)
    else:
        column = (number - TILES) * BLOCK_WIDTH + tl.arange(0, BLOCK_WIDTH)
        bias2_sums = column_sum(grad + row * WIDTH, count, column, WIDTH, BLOCK_ROWS)
        tl.store(out + PART - WIDTH + column, bias2_sums, mask=column < WIDTH)


@triton.jit(do_not_specialize=["parts"])
def add_parts_kernel(
    workspace: tl.tensor,
    weight1_grad: tl.tensor,
    bias1_grad: tl.tensor,
    weight2_grad: tl.tensor,
    bias2_grad: tl.tensor,
    parts: tl.tensor,
    FIELDS: tl.constexpr,
    WIDTH: tl.constexpr,
    HIDDEN: tl.constexpr,
    BLOCK: tl.constexpr,
) -> None:
    """dW1 [H, N + Z], db1 [H], dW2 [Z, H] and db2 [Z]: the workspace's parts added, first to last.

    Reads 4 bytes of every part for each element.
    """
    BIAS1: tl.constexpr = HIDDEN * (FIELDS + WIDTH)
    WEIGHT2: tl.constexpr = BIAS1 + HIDDEN
    BIAS2: tl.constexpr = WEIGHT2 + WIDTH * HIDDEN
    PART: tl.constexpr = BIAS2 + WIDTH
    place = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    total = tl.zeros((BLOCK,), dtype=tl.float32)
    # Unrolled, so that the loads of some parts are under way at once.
    for _ in tl.range(0, parts, loop_unroll_factor=8):
        total += tl.load(workspace + place, mask=place < PART, other=0.0)
        workspace += PART
    dtype = weight1_grad.dtype.element_ty
    total = total.to(dtype)
    tl.store(weight1_grad + place, total, mask=place < BIAS1)
    tl.store(bias1_grad + (place - BIAS1), total, mask=(place >= BIAS1) & (place < WEIGHT2))
    tl.store(weight2_grad + (place - WEIGHT2), total, mask=(place >= WEIGHT2) & (place < BIAS2))
    tl.store(bias2_grad + (place - BIAS2), total, mask=(place >= BIAS2) & (place < PART))


def weight_gradients(
    grad: Tensor,
    words: Tensor,
    noisy: Tensor,
    hidden: Tensor,
    hidden_grad: Tensor,
    fields: int,
    capability: int,
    precision: str,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Launch the kernels: dW1 [H, N + Z], db1 [H], dW2 [Z, H] and db2 [Z], of the others' type.

    Args:
        grad: dy, [B, Z] with at least one row; contiguous, like the rest.
        words: int32 [B, W].
        noisy: z_T, [B, Z].
        hidden: act(pre), [B, H].
        hidden_grad: dpre, [B, H].
        fields: N.
        capability: the GPU's compute capability times ten.
        precision: input precision of fp32 products, "ieee" or "tf32".
    """
    (rows, width), hidden_units = noisy.shape, hidden.shape[1]
    sizes = (fields, width, hidden_units)
    tile = weight_tile(*sizes, noisy.element_size(), capability, precision)
    part_rows = rows_of_part(rows, *sizes)
    parts = triton.cdiv(rows, part_rows)
    d_weight1 = noisy.new_empty(hidden_units, fields + width)
    d_bias1 = noisy.new_empty(hidden_units)
    d_weight2 = noisy.new_empty(width, hidden_units)
    d_bias2 = noisy.new_empty(width)
    gradients = (d_weight1, d_bias1, d_weight2, d_bias2)
    elements = sum(gradient.numel() for gradient in gradients)
    workspace = noisy.new_empty(parts, elements, dtype=torch.float32)
    weight_gradients_kernel[(tile.programs(*sizes), parts)](
        hidden_grad,
        hidden,
        words,
        noisy,
        grad,
        workspace,
        rows,
        part_rows,
        **_constants(*sizes, precision, tile),
        num_warps=tile.warps,
        num_stages=tile.stages,
    )
    add_parts_kernel[(triton.cdiv(elements, ADD_BLOCK),)](
        workspace, *gradients, parts, *sizes, BLOCK=ADD_BLOCK, num_warps=ADD_WARPS
    )
    return gradients


def specimens(capability: int) -> list[Specimen]:
    """Usual and largest sizes in bf16, the smallest in fp16; fp32, exact and in tf32; the sums."""
    gradients = dict.fromkeys(("weight1_grad", "bias1_grad", "weight2_grad", "bias2_grad"), "*bf16")
    return [
        _specimen(capability, "bf16", 200, 128, 256),
        _specimen(capability, "bf16", 512, 256, 1024),
        _specimen(capability, "fp16", 1, 16, 32),
        _specimen(capability, "fp32", 200, 128, 256),
        _specimen(capability, "fp32", 200, 128, 256, precision="tf32"),
        Specimen(
            name=f"add_parts bf16 n200 z128 h256 sm_{capability}",
            kernel=add_parts_kernel,
            arguments={"workspace": "*fp32", **gradients, "parts": "i32"},
            constants={"FIELDS": 200, "WIDTH": 128, "HIDDEN": 256, "BLOCK": ADD_BLOCK},
            divisible=("workspace", *gradients),
            capability=capability,
            warps=ADD_WARPS,
            stages=1,
            tensor_cores=False,
        ),
    ]


def _specimen(
    capability: int, dtype: str, fields: int, width: int, hidden: int, precision: str = "ieee"
) -> Specimen:
    itemsize = 4 if dtype == "fp32" else 2
    tile = weight_tile(fields, width, hidden, itemsize, capability, precision)
    pointers = dict.fromkeys(("hidden_grad", "hidden", "noisy", "grad"), f"*{dtype}")
    pointers |= {"words": "*i32", "workspace": "*fp32"}
    numbers = "tf32" if precision == "tf32" else dtype
    return Specimen(
        name=f"weight_gradients {numbers} n{fields} z{width} h{hidden} sm_{capability}",
        kernel=weight_gradients_kernel,
        arguments=pointers | {"rows": "i32", "part_rows": "i32"},
        constants=_constants(fields, width, hidden, precision, tile),
        divisible=tuple(pointers),
        capability=capability,
        warps=tile.warps,
        stages=tile.stages,
        tensor_cores=numbers != "fp32",
    )


def _constants(
    fields: int, width: int, hidden: int, precision: str, tile: WeightTile
) -> dict[str, Any]:
    return {
        "FIELDS": fields,
        "WIDTH": width,
        "HIDDEN": hidden,
        "PRECISION": precision,
        "BLOCK_ROWS": tile.rows,
        "BLOCK_HIDDEN": tile.hidden,
        "BLOCK_FIELDS": tile.fields,
        "BLOCK_WIDTH": tile.columns,
    }

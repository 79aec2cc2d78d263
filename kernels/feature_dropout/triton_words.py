"""Mask words on a GPU: the forward process of ``forward_process.py``, bit for bit, in one launch.

The two device functions make words wherever a kernel wants them, such as the fused denoiser.

Legend: B rows, N fields, W = ceil(N / 32) words a row, R rows and C words of a tile; t is the
threshold of a row, whose features are dropped with probability p = t / 2^12.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from dropdrift.kernels.feature_dropout.forward_process import rate_levels
from dropdrift.kernels.philox import signed_seed
from dropdrift.kernels.specimen import Specimen

# Small programs, so that a few thousand rows reach all multiprocessors.
BLOCK_ROWS, WARPS, STAGES = 64, 2, 1


@triton.jit
def drop_thresholds(
    row: tl.tensor, seed: tl.tensor, step: tl.tensor, levels: tl.tensor, FIXED_RATE: tl.constexpr
) -> tl.tensor:
    """Thresholds t of rows: one Philox call each, or none where the rate is fixed.

    With the Philox words u_0, u_1, u_2 at (row, 0, step, 0): trapezoid = (u_0 >> 20) + (u_1 & 1) in
    0..4096 and t = (trapezoid levels + (u_2 >> 20)) >> 12. With a fixed rate, t = levels.

    Args:
        row: uint32, any shape: the rows of the global batch (``first_row`` + row, modulo 2^32).
        seed: the 64-bit seed as a signed scalar; list it in ``do_not_specialize``.
        step: scalar in 0..2^32 - 1; list it in ``do_not_specialize``.
        levels: scalar, round(4096 max_rate) or round(4096 rate), in 0..4096.
        FIXED_RATE: whether all rows have t = levels.

    Returns:
        int32 in 0..4096, the shape of ``row``.
    """
    if FIXED_RATE:
        return tl.zeros_like(row).to(tl.int32) + levels
    word0, word1, word2, _ = tl.philox(seed, row, 0, step.to(tl.uint32), 0)
    trapezoid = ((word0 >> 20) + (word1 & 1)).to(tl.int32)
    return (trapezoid * levels + (word2 >> 20).to(tl.int32)) >> 12


@triton.jit
def drop_words_tile(
    missing: tl.tensor,
    row: tl.tensor,
    column: tl.tensor,
    threshold: tl.tensor,
    fields: tl.tensor,
    seed: tl.tensor,
    step: tl.tensor,
) -> tl.tensor:
    """Missing-or-dropped words s for rows and word columns, each bit dropped with p = t / 4096.

    Twelve Philox bit planes u_0..u_11, at (row, column, step, 1..3), are compared with the binary
    digits d_0..d_11 of t for 32 fields at once, lowest digit first:
    less := majority(d_k, not u_k, less), which ends as u < t. t = 4096 drops all.

    Args:
        missing: int32 [R, C], the naturally missing fields, which stay set; 0 beyond W.
        row: uint32 [R, 1], see :func:`drop_thresholds`.
        column: int32 [1, C] or a scalar tensor, the word w of fields 32 w .. 32 w + 31.
        threshold: int32 [R, 1], of :func:`drop_thresholds`.
        fields: N; the bits of fields beyond it (and the words beyond W) are as in ``missing``.
        seed: see :func:`drop_thresholds`.
        step: see :func:`drop_thresholds`.

    Returns:
        int32 [R, C] (all shapes may also be [R] with a scalar ``column``).
    """
    word = (column + tl.zeros_like(missing)).to(tl.uint32)  # column may be a plain number
    less = tl.zeros_like(missing)
    for stream in tl.static_range(1, 4):
        planes = tl.philox(seed, row, word, step.to(tl.uint32), stream)
        for quarter in tl.static_range(4):
            digit = -((threshold >> (4 * stream - 4 + quarter)) & 1)
            below = ~planes[quarter].to(tl.int32)
            less = (digit & (below | less)) | (below & less)
    dropped = tl.where(threshold == 4096, -1, less)
    present = fields - 32 * column
    used = tl.where(present >= 32, -1, (1 << tl.minimum(tl.maximum(present, 0), 31)) - 1)
    return missing | (dropped & used)


@triton.jit(
    do_not_specialize=["rows", "words_of_row", "fields", "seed", "step", "first_row", "levels"]
)
def drop_words_kernel(
    missing: tl.tensor,
    words: tl.tensor,
    rows: tl.tensor,
    words_of_row: tl.tensor,
    fields: tl.tensor,
    seed: tl.tensor,
    step: tl.tensor,
    first_row: tl.tensor,
    levels: tl.tensor,
    FIXED_RATE: tl.constexpr,
    BLOCK_ROWS: tl.constexpr,
) -> None:
    """Words s = missing | (u < t), int32 [B, W] to [B, W]: one row a lane, word after word.

    So a row's threshold, its digits and the first products of its counters are made once.
    """
    local = tl.program_id(0).to(tl.int64) * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)
    inside = local < rows
    row = first_row.to(tl.uint32) + local.to(tl.uint32)
    threshold = drop_thresholds(row, seed, step, levels, FIXED_RATE)
    for column in range(words_of_row):
        place = local * words_of_row + column
        absent = tl.load(missing + place, mask=inside, other=0)
        dropped = drop_words_tile(absent, row, column, threshold, fields, seed, step)
        tl.store(words + place, dropped, mask=inside)


def make_words(
    missing: Tensor,
    fields: int,
    seed: int,
    step: int,
    first_row: int,
    max_rate: float,
    rate: float | None,
) -> Tensor:
    """Launch the kernel; arguments and result as ``forward_process.drop_words``."""
    words = missing.new_empty(missing.shape)
    rows, words_of_row = missing.shape
    if rows == 0:
        return words
    with torch.cuda.device_of(words):  # type: ignore[no-untyped-call]  # torch
        drop_words_kernel[(triton.cdiv(rows, BLOCK_ROWS),)](
            missing.contiguous(),
            words,
            rows,
            words_of_row,
            fields,
            signed_seed(seed),
            step,
            first_row,
            rate_levels(max_rate, rate),
            FIXED_RATE=rate is not None,
            BLOCK_ROWS=BLOCK_ROWS,
            num_warps=WARPS,
            num_stages=STAGES,
        )
    return words


def specimens(capability: int) -> list[Specimen]:
    """The kernel with a random and with a fixed rate."""
    arguments = {
        "missing": "*i32",
        "words": "*i32",
        "rows": "i32",
        "words_of_row": "i32",
        "fields": "i32",
        "seed": "i64",
        "step": "i32",
        "first_row": "i32",
        "levels": "i32",
    }
    return [
        Specimen(
            name=f"drop_words {rate} rate sm_{capability}",
            kernel=drop_words_kernel,
            arguments=arguments,
            constants={"FIXED_RATE": rate == "fixed", "BLOCK_ROWS": BLOCK_ROWS},
            divisible=("missing", "words"),
            capability=capability,
            warps=WARPS,
            stages=STAGES,
            tensor_cores=False,
        )
        for rate in ("random", "fixed")
    ]

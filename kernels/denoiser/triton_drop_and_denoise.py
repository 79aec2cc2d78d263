"""Mask words and the denoiser's forward in one launch: masking, step embedding and both layers.

Legend: as in ``triton_forward``.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from dropdrift.kernels.denoiser.tiles import capability_of, forward_tile, input_precision
from dropdrift.kernels.denoiser.triton_forward import Example, constants, denoise_rows
from dropdrift.kernels.feature_dropout.forward_process import rate_levels
from dropdrift.kernels.feature_dropout.triton_words import drop_thresholds, drop_words_tile
from dropdrift.kernels.philox import signed_seed
from dropdrift.kernels.specimen import Specimen


@triton.jit
def drop_rows(
    missing: tl.tensor,
    words: tl.tensor,
    local: tl.tensor,
    valid: tl.tensor,
    seed: tl.tensor,
    step: tl.tensor,
    first_row: tl.tensor,
    levels: tl.tensor,
    FIXED_RATE: tl.constexpr,
    FIELDS: tl.constexpr,
) -> None:
    """Words of the rows ``local``, int64 [R], of the batch: as ``triton_words`` makes them."""
    count: tl.constexpr = (FIELDS + 31) // 32
    column = tl.arange(0, triton.next_power_of_2(count))
    place = local[:, None] * count + column[None, :]
    inside = valid[:, None] & (column < count)[None, :]
    absent = tl.load(missing + place, mask=inside, other=0)
    row = first_row.to(tl.uint32) + local.to(tl.uint32)
    threshold = drop_thresholds(row, seed, step, levels, FIXED_RATE)
    dropped = drop_words_tile(
        absent, row[:, None], column[None, :], threshold[:, None], FIELDS, seed, step
    )
    tl.store(words + place, dropped, mask=inside)


@triton.jit(do_not_specialize=["rows", "seed", "step", "first_row", "levels"])
def drop_and_denoise_kernel(
    missing: tl.tensor,
    noisy: tl.tensor,
    weight1: tl.tensor,
    bias1: tl.tensor,
    weight2: tl.tensor,
    bias2: tl.tensor,
    words: tl.tensor,
    out: tl.tensor,
    hidden: tl.tensor,
    rows: tl.tensor,
    seed: tl.tensor,
    step: tl.tensor,
    first_row: tl.tensor,
    levels: tl.tensor,
    FIXED_RATE: tl.constexpr,
    FIELDS: tl.constexpr,
    WIDTH: tl.constexpr,
    HIDDEN: tl.constexpr,
    ACTIVATION: tl.constexpr,
    SAVE: tl.constexpr,
    PRECISION: tl.constexpr,
    BLOCK_ROWS: tl.constexpr,
    BLOCK_HIDDEN: tl.constexpr,
    BLOCK_FIELDS: tl.constexpr,
    STAGES: tl.constexpr,
) -> None:
    """S = missing | (u < t) to words, then ``denoise_kernel``: act([S, Z_T] W1^T + b1) W2^T + b2.

    missing, words int32 [B, W]; the other shapes as there. A program makes the words of its own
    rows, which other kernels need too, and reads them back from the cache that they went through.
    """
    row = tl.program_id(0).to(tl.int64) * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)
    drop_rows(missing, words, row, row < rows, seed, step, first_row, levels, FIXED_RATE, FIELDS)
    tl.debug_barrier()  # threads read words that others of the program have written
    denoise_rows(
        words,
        (noisy, weight1, bias1, weight2, bias2),
        out,
        hidden,
        row,
        row < rows,
        FIELDS,
        WIDTH,
        HIDDEN,
        ACTIVATION,
        SAVE,
        PRECISION,
        BLOCK_HIDDEN,
        BLOCK_FIELDS,
        STAGES,
    )


def drop_and_denoise_forward(
    missing: Tensor,
    noisy: Tensor,
    weight1: Tensor,
    bias1: Tensor,
    weight2: Tensor,
    bias2: Tensor,
    activation: str,
    save_hidden: bool,
    seed: int,
    step: int,
    first_row: int,
    max_rate: float,
    rate: float | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Launch the kernel: ``triton_words.make_words``, then ``triton_forward.denoise_forward``.

    Returns:
        z_0' [B, Z]; what is activated, [B, H] or, unless ``save_hidden``, [0, H]; words [B, W].
    """
    rows, width = noisy.shape
    hidden_units, inputs = weight1.shape
    words = missing.new_empty(missing.shape)
    out = noisy.new_empty(rows, width)
    hidden = noisy.new_empty(rows if save_hidden else 0, hidden_units)
    if rows == 0:
        return out, hidden, words
    sizes = (rows, inputs - width, width, hidden_units)
    tile = forward_tile(*sizes, noisy.element_size(), capability_of(noisy))
    precision = input_precision(noisy.dtype)
    with torch.cuda.device_of(noisy):  # type: ignore[no-untyped-call]  # torch
        drop_and_denoise_kernel[(triton.cdiv(rows, tile.rows),)](
            missing,
            noisy,
            weight1,
            bias1,
            weight2,
            bias2,
            words,
            out,
            hidden,
            rows,
            signed_seed(seed),
            step,
            first_row,
            rate_levels(max_rate, rate),
            FIXED_RATE=rate is not None,
            **constants(*sizes[1:], activation, save_hidden, precision, tile),
            num_warps=tile.warps,
            num_stages=tile.stages,
        )
    return out, hidden, words


_EXAMPLES = (
    (Example(65_536, 200, 128, 256, "bf16", "relu", save_hidden=False), False),
    (Example(65_536, 512, 128, 512, "bf16", "gelu", save_hidden=True), True),
)


def specimens(capability: int) -> list[Specimen]:
    """The kernel with random rates, and with a fixed one, as many words as there can be."""
    integers = {"missing": "*i32", "words": "*i32", "seed": "i64"}
    integers |= dict.fromkeys(("rows", "step", "first_row", "levels"), "i32")
    return [
        example.specimen(drop_and_denoise_kernel, capability, integers, {"FIXED_RATE": fixed})
        for example, fixed in _EXAMPLES
    ]

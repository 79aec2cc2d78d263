"""The denoiser's forward on a GPU, in one launch: neither s nor [s, z_T] is ever in memory.

Legend: B rows, N fields, W mask words, Z width of z, H hidden units; R, U, C and K as in
``triton_tiles``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from dropdrift.kernels.denoiser.tiles import (
    Tile,
    capability_of,
    forward_tile,
    input_precision,
)
from dropdrift.kernels.denoiser.triton_tiles import (
    activation,
    padded,
    pre_activation_tile,
    step_chunks,
)
from dropdrift.kernels.specimen import Specimen


@triton.jit
def denoise_rows(
    words: tl.tensor,
    operands: tl.tuple,
    out: tl.tensor,
    hidden: tl.tensor,
    row: tl.tensor,
    valid: tl.tensor,
    FIELDS: tl.constexpr,
    WIDTH: tl.constexpr,
    HIDDEN: tl.constexpr,
    ACTIVATION: tl.constexpr,
    SAVE: tl.constexpr,
    PRECISION: tl.constexpr,
    BLOCK_HIDDEN: tl.constexpr,
    BLOCK_FIELDS: tl.constexpr,
    STAGES: tl.constexpr,
) -> None:
    """Rows of :func:`denoise_kernel`: ``row``, int64 [R], of which the ``valid`` ones are there.

    ``operands`` are noisy, weight1, bias1, weight2 and bias2.
    """
    noisy, weight1, bias1, weight2, bias2 = operands
    column = tl.arange(0, padded(WIDTH))
    inside = valid[:, None] & (column < WIDTH)[None, :]
    z = tl.load(noisy + row[:, None] * WIDTH + column[None, :], mask=inside, other=0.0)
    s = step_chunks(words, row, valid, FIELDS, BLOCK_FIELDS, z.dtype)
    y = tl.zeros(z.shape, dtype=tl.float32)
    for first in tl.range(0, HIDDEN, BLOCK_HIDDEN, num_stages=STAGES):
        unit = first + tl.arange(0, BLOCK_HIDDEN)
        real = unit < HIDDEN
        pre, _ = pre_activation_tile(
            z, s, weight1, bias1, unit, FIELDS, WIDTH, HIDDEN, BLOCK_FIELDS, PRECISION
        )
        if SAVE:
            place = hidden + row[:, None] * HIDDEN + unit[None, :]
            tl.store(place, pre.to(z.dtype), mask=valid[:, None] & real[None, :])
        place = weight2 + column[None, :] * HIDDEN + unit[:, None]
        second = tl.load(place, mask=real[:, None] & (column < WIDTH)[None, :], other=0.0)
        active = activation(pre, ACTIVATION).to(z.dtype)
        y = tl.dot(active, second, y, input_precision=PRECISION)
    y += tl.load(bias2 + column, mask=column < WIDTH, other=0.0).to(tl.float32)[None, :]
    tl.store(out + row[:, None] * WIDTH + column[None, :], y.to(z.dtype), mask=inside)


@triton.jit(do_not_specialize=["rows"])
def denoise_kernel(
    words: tl.tensor,
    noisy: tl.tensor,
    weight1: tl.tensor,
    bias1: tl.tensor,
    weight2: tl.tensor,
    bias2: tl.tensor,
    out: tl.tensor,
    hidden: tl.tensor,
    rows: tl.tensor,
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
    """Z_0' = act([S, Z_T] W1^T + b1) W2^T + b2, R rows a program.

    words int32 [B, W], S packed; noisy Z_T [B, Z]; weight1 [H, N + Z]; bias1 [H]; weight2 [Z, H];
    bias2 [Z]; out [B, Z]; hidden [B, H] gets what is activated, if ``SAVE``. Sums are fp32; the
    hidden layer is rounded to the type of z where it is multiplied or stored.
    """
    row = tl.program_id(0).to(tl.int64) * BLOCK_ROWS + tl.arange(0, BLOCK_ROWS)
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


def denoise_forward(
    words: Tensor,
    noisy: Tensor,
    weight1: Tensor,
    bias1: Tensor,
    weight2: Tensor,
    bias2: Tensor,
    activation: str,
    save_hidden: bool,
) -> tuple[Tensor, Tensor]:
    """Launch the kernel on contiguous tensors that ``checks.check_arguments`` has passed.

    Returns:
        z_0' [B, Z], and what is activated, [B, H] or, unless ``save_hidden``, [0, H].
    """
    rows, width = noisy.shape
    hidden_units, inputs = weight1.shape
    out = noisy.new_empty(rows, width)
    hidden = noisy.new_empty(rows if save_hidden else 0, hidden_units)
    if rows == 0:
        return out, hidden
    sizes = (rows, inputs - width, width, hidden_units)
    tile = forward_tile(*sizes, noisy.element_size(), capability_of(noisy))
    precision = input_precision(noisy.dtype)
    with torch.cuda.device_of(noisy):  # type: ignore[no-untyped-call]  # torch
        denoise_kernel[(triton.cdiv(rows, tile.rows),)](
            words,
            noisy,
            weight1,
            bias1,
            weight2,
            bias2,
            out,
            hidden,
            rows,
            **constants(*sizes[1:], activation, save_hidden, precision, tile),
            num_warps=tile.warps,
            num_stages=tile.stages,
        )
    return out, hidden


def constants(
    fields: int,
    width: int,
    hidden: int,
    activation: str,
    save_hidden: bool,
    precision: str,
    tile: Tile,
) -> dict[str, Any]:
    """The constants that :func:`denoise_rows` needs, and the rows of a program."""
    return {
        "FIELDS": fields,
        "WIDTH": width,
        "HIDDEN": hidden,
        "ACTIVATION": activation,
        "SAVE": save_hidden,
        "PRECISION": precision,
        "BLOCK_ROWS": tile.rows,
        "BLOCK_HIDDEN": tile.hidden,
        "BLOCK_FIELDS": tile.fields,
        "STAGES": tile.stages,
    }


@dataclass(frozen=True)
class Example:
    """A call to compile a kernel for: B, N, Z, H, Triton's name of the type, and the rest."""

    rows: int
    fields: int
    width: int
    hidden: int
    dtype: str
    activation: str
    save_hidden: bool

    def specimen(
        self,
        kernel: Any,
        capability: int,
        integers: Mapping[str, str],
        more_constants: Mapping[str, Any],
    ) -> Specimen:
        """A kernel of this file's kind compiled for this call.

        Args:
            kernel: its floating-point arguments are those of :func:`denoise_kernel`.
            capability: the GPU's.
            integers: types of its other arguments.
            more_constants: what it needs beside :func:`constants`.
        """
        sizes = (self.fields, self.width, self.hidden)
        itemsize = 4 if self.dtype == "fp32" else 2
        tile = forward_tile(self.rows, *sizes, itemsize, capability)
        call = (*sizes, self.activation, self.save_hidden, "ieee", tile)
        arguments = dict.fromkeys(_FLOATING, f"*{self.dtype}") | dict(integers)
        name = kernel.__name__.removesuffix("_kernel")
        shape = f"b{self.rows} n{self.fields} z{self.width} h{self.hidden}"
        saved = " saved" if self.save_hidden else ""
        return Specimen(
            name=f"{name} {self.dtype} {shape} {self.activation}{saved} sm_{capability}",
            kernel=kernel,
            arguments=arguments,
            constants=constants(*call) | dict(more_constants),
            divisible=tuple(name for name, kind in arguments.items() if kind.startswith("*")),
            capability=capability,
            warps=tile.warps,
            stages=tile.stages,
            # fp32 products are exact, which tensor cores cannot do.
            tensor_cores=self.dtype != "fp32",
        )


_FLOATING = ("noisy", "weight1", "bias1", "weight2", "bias2", "out", "hidden")
_EXAMPLES = (
    Example(65_536, 200, 128, 256, "bf16", "relu", save_hidden=False),
    Example(65_536, 200, 128, 512, "bf16", "gelu", save_hidden=True),
    Example(4_096, 200, 128, 256, "bf16", "silu", save_hidden=False),
    Example(65_536, 512, 256, 1_024, "bf16", "gelu", save_hidden=True),
    Example(65_536, 45, 64, 128, "fp16", "silu", save_hidden=False),  # nothing is aligned
    Example(65_536, 200, 128, 256, "fp32", "gelu", save_hidden=True),
)


def specimens(capability: int) -> list[Specimen]:
    """The kernel for large and small batches, wide layers, odd sizes, and each type."""
    integers = {"words": "*i32", "rows": "i32"}
    return [example.specimen(denoise_kernel, capability, integers, {}) for example in _EXAMPLES]

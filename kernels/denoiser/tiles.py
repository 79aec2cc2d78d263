"""Which tile the forward kernel takes for which sizes, and what the kernels are worth.

A program of the forward kernel has R rows. z and s of its rows stay in shared memory; for U hidden
units at a time it loads their rows of W1 and columns of W2 through a pipeline of stages. Weights
come from L2, once for every R rows: R should be large. Hopper's products read two operands from
shared memory, which arrive as fast as the tensor cores take them from U = 64 on: U should be large.
Both want shared memory, where s and z take R (N + Z) numbers already. So there is a list for each
GPU, best first, and the first tile is taken that fits.

What is measured here was read off kernels compiled ahead of time (triton 3.7.1): registers of a
thread, stack, shared memory. Which tile is fastest is modelled from that; none has been timed on a
GPU yet.

Legend: B rows, N fields, Z width of z, H hidden units; C columns: Z up to a power of two.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import torch
from torch import Tensor

from dropdrift.kernels.feature_dropout.words import word_count

# What the kernels take; every size in these ranges has a tile on every GPU from sm_80 on.
FIELDS = range(1, 513)
WIDTHS = range(16, 257)
HIDDEN_UNITS = range(32, 1025)


@dataclass(frozen=True)
class Tile:
    """How a row-parallel kernel is cut up.

    Attributes:
        rows: R, rows of a program.
        hidden: U, hidden units of a turn of its loop.
        fields: K, the most fields of a chunk of s: one product.
        warps: of a program.
        stages: of the pipeline that loads the weights.
    """

    rows: int
    hidden: int
    fields: int
    warps: int
    stages: int


# Registers and shared bytes are those of bf16 with relu and, after the slash, of gelu with the
# hidden layer saved, at N = 200, Z = 128, H = 512 where nothing else is said.
#
# sm_90. 128 rows in two warp groups: while one waits for its product or takes the activation, the
# other multiplies. 178 / 227 registers, 213,120 / 229,504 bytes: one program a multiprocessor. In
# chunks of 32 fields each turn would wait 4 times more; in chunks of 128 the fields are padded from
# 224 to 256, and saving takes 245,888 bytes, which do not fit.
_HOPPER = (
    Tile(128, 64, 64, 8, 2),
    Tile(128, 32, 64, 8, 2),  # from about 230 fields on
    Tile(64, 32, 64, 4, 2),  # 512 fields: 190 registers, 184,384 bytes
)
# Half the rows, for batches that would leave multiprocessors without work: 176 / 230 registers,
# 168,064 / 176,256 bytes; odd sizes spilled 48 bytes, and take the last of the list above.
_HOPPER_SMALL = Tile(64, 64, 64, 4, 2)
# Z = 256: the result alone is 128 registers of each thread. In chunks of 32 fields it is 248 / 253
# and 217,152 / 225,344 bytes; in chunks of 64 gelu spilled 16 bytes, and so did odd sizes in any.
# The others give a warp group half the columns: 172 / 182 registers, 155,712 / 159,808 bytes, and
# 173, 165,920 for 512 fields and gelu.
_HOPPER_WIDE = (Tile(128, 32, 32, 8, 2), Tile(64, 32, 64, 8, 2), Tile(64, 16, 64, 8, 2))

# sm_80. Products take s from registers, so that chunks are small: 186 / 224, 79,936 bytes, two
# programs a multiprocessor. 128 rows spilled with gelu.
_AMPERE = (Tile(64, 32, 32, 4, 2),)
# 512 fields: 177 / 184 registers, 135,232 bytes; with 4 warps 24 bytes of stack.
_AMPERE_MANY_FIELDS = (Tile(64, 32, 64, 8, 2), Tile(32, 32, 32, 4, 2))
# Z = 256 with 64 rows spilled. So they did where N or Z is odd, and loads are narrow and have more
# addresses.
_AMPERE_WIDE = (Tile(32, 32, 32, 4, 2),)

# fp32, exact products by default, which are no tensor-core work: 102 registers and 77,888 bytes on
# sm_90, 126 on sm_80; larger tiles spilled up to 1,000 bytes. Not made to be quick: fp32 is for
# comparing.
_FLOAT32 = (Tile(32, 16, 64, 8, 2), Tile(16, 16, 64, 4, 2))

# For GPUs with less shared memory (sm_86, sm_89, sm_120) where nothing else fits.
_SMALLEST = Tile(16, 16, 64, 4, 1)

# Shared memory that a program may have (CUDA programming guide, "Compute Capabilities").
_SHARED_BYTES = {80: 166_912, 87: 166_912, 90: 232_448, 100: 232_448, 103: 232_448}
_SHARED_BYTES_ELSEWHERE = 101_376


@lru_cache
def forward_tile(
    rows: int, fields: int, width: int, hidden: int, itemsize: int, capability: int
) -> Tile:
    """The forward kernel's tile, the same whether the hidden layer is saved or not.

    Args:
        rows: B.
        fields: N.
        width: Z.
        hidden: H.
        itemsize: bytes of a number.
        capability: the GPU's compute capability times ten.
    """
    limit = shared_limit(capability)
    fitting = (
        tile
        for tile in _candidates(rows, fields, width, itemsize, capability)
        if shared_bytes(tile, fields, width, itemsize, capability) <= limit
    )
    tile = next(fitting, _SMALLEST)
    # A loop of one turn has no pipeline: its weights all go through registers, and spilled.
    return replace(tile, hidden=min(tile.hidden, padded(hidden // 2)))


def _candidates(
    rows: int, fields: int, width: int, itemsize: int, capability: int
) -> tuple[Tile, ...]:
    wide = padded(width) > 128
    aligned = fields % 8 == 0 and width % 8 == 0
    if itemsize == 4:
        return _FLOAT32
    if 90 <= capability < 120:  # sm_120 has the tensor cores of sm_80, which sm_100 has not
        small = rows <= _HOPPER_SMALL.rows * MULTIPROCESSORS
        if wide:
            return _HOPPER_WIDE[1:] if small or not aligned else _HOPPER_WIDE
        if small:
            return (_HOPPER_SMALL, *_HOPPER) if aligned else _HOPPER[2:]
        return _HOPPER
    if wide or not aligned:
        return _AMPERE_WIDE
    return _AMPERE if fields <= 256 else _AMPERE_MANY_FIELDS


def shared_bytes(tile: Tile, fields: int, width: int, itemsize: int, capability: int) -> int:
    """The most shared memory that the forward kernel takes with a tile, within some 500 bytes.

    s and z of the rows, the weights of the stages, and what it takes to turn a tile of the hidden
    layer round for storing. wgmma reads weights where they arrived, which are then held a stage
    longer; it takes 64 rows.
    """
    step = sum(chunk_fields(fields, n, tile.fields) for n in range(0, fields, tile.fields))
    held = tile.stages if capability >= 90 and tile.rows >= 64 else max(1, tile.stages - 1)
    of_row = step + padded(width) + tile.hidden
    of_stage = tile.hidden * (step + 2 * padded(width) + 1)
    return (tile.rows * of_row + held * of_stage) * itemsize + 512


def shared_limit(capability: int) -> int:
    """Shared memory that a program may have on a GPU of a compute capability times ten."""
    return _SHARED_BYTES.get(capability, _SHARED_BYTES_ELSEWHERE)


def padded(size: int) -> int:
    """A size up to the next power of two that a product takes."""
    return max(16, 1 << (size - 1).bit_length())


def chunk_fields(fields: int, first: int, block: int) -> int:
    """Fields of the chunk of s from ``first`` on: ``block``, or fewer where fewer are left."""
    return min(block, max(32, 1 << (fields - first - 1).bit_length()))


def out_of_range(fields: int, width: int, hidden: int) -> str | None:
    """Why the Triton kernels do not take these sizes; None if they do."""
    for name, size, sizes in (
        ("fields", fields, FIELDS),
        ("width", width, WIDTHS),
        ("hidden units", hidden, HIDDEN_UNITS),
    ):
        if size not in sizes:
            return f"its kernels take {sizes[0]} to {sizes[-1]} {name}, not {size}"
    return None


def capability_of(tensor: Tensor) -> int:
    """Compute capability times ten of a tensor's GPU; 90 for the interpreter's CPU."""
    if not tensor.is_cuda:
        return 90
    major, minor = torch.cuda.get_device_capability(tensor.device)
    return 10 * major + minor


def input_precision(dtype: torch.dtype) -> str:
    """How fp32 products are made: "ieee", or "tf32" where torch's own may be."""
    exact = dtype != torch.float32 or torch.get_float32_matmul_precision() == "highest"
    return "ieee" if exact else "tf32"


# What follows is a model of one H200: its copy and matmul rates are measured, the rest is assumed.
MULTIPROCESSORS = 132
_COPY_BYTES_A_SECOND = 4.3e12
_MATMUL_FLOPS_A_SECOND = 790e12
# Launches of the torch backend (unpacking s, three products, bias and activation), and what one
# takes, even replayed from a graph.
_TORCH_LAUNCHES = 8
_LAUNCH_SECONDS = 2e-6
# Ours must be this much ahead in a comparison that already favours torch.
_MARGIN = 1.2


@lru_cache
def triton_is_faster(rows: int, fields: int, width: int, hidden: int, dtype: torch.dtype) -> bool:
    """Whether the kernels are expected to beat the torch backend: modelled, not measured.

    torch is credited with products at the full matmul rate and traffic at the full copy rate, the
    kernels with half the matmul rate and with weights that arrive no faster than memory copies.
    So they win where launches or the traffic of s, the concatenation and the hidden layer count,
    and leave wide layers to torch. fp32 is always left to torch.
    """
    if dtype not in (torch.bfloat16, torch.float16):
        return False
    tile = forward_tile(rows, fields, width, hidden, dtype.itemsize, capability=90)
    programs = -(-rows // tile.rows)
    flops = 2 * hidden * (fields + 2 * width)
    outside = 4 * word_count(fields) + dtype.itemsize * 2 * width
    # s is written; the activation reads and writes the hidden layer.
    elementwise = dtype.itemsize * (fields + 2 * hidden)
    # s is read; the hidden layer is written, added to and read.
    products = outside + dtype.itemsize * (fields + 4 * hidden)
    weights = dtype.itemsize * hidden * (fields + 2 * width)
    multiprocessors = min(programs, MULTIPROCESSORS) / MULTIPROCESSORS
    ours = _LAUNCH_SECONDS + max(
        programs * tile.rows * 2 * flops / (_MATMUL_FLOPS_A_SECOND * multiprocessors),
        (programs * weights + rows * outside) / _COPY_BYTES_A_SECOND,
    )
    theirs = _TORCH_LAUNCHES * _LAUNCH_SECONDS + rows * (
        elementwise / _COPY_BYTES_A_SECOND
        + max(flops / _MATMUL_FLOPS_A_SECOND, products / _COPY_BYTES_A_SECOND)
    )
    return ours * _MARGIN < theirs

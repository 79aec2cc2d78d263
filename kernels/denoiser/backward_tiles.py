"""Which tiles the backward's kernels take for which sizes, and how its rows are cut into parts.

As in ``tiles``: what is measured was read off kernels compiled ahead of time (triton 3.7.1), and
none has been timed on a GPU yet. Registers and shared bytes are those of bf16 and, of the kernel
along the rows, of relu and, after the slash, gelu, which takes the most.

Legend: B rows, N fields, Z width of z, H hidden units; C columns: Z up to a power of two. A tile
has R rows, U hidden units, K fields or C columns.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from dropdrift.kernels.denoiser.tiles import Tile, chunk_fields, padded, shared_limit

# The kernel along the rows keeps dy too, beside z and s of the forward, and a second tile of the
# hidden layer. Gradients of z are R C / 256 registers of each thread of 8 warps.
#
# sm_90, N = 200, by Z, pre-activations computed again | saved:
#   128: 182 / 236 registers, 192,512 bytes | 178 / 235, 81,920; 64 units do not fit, or spill saved
#   256: 64 rows, 232 registers, 192,512 bytes | 223, 106,496
# More than 288 fields leave room for 64 rows. With 512, Z = 128 takes 130 registers, 200,704 bytes;
# Z = 256, with 16 units, 184 registers, 198,656 bytes.
_HOPPER = (Tile(128, 32, 64, 8, 2), Tile(64, 32, 64, 8, 2), Tile(64, 16, 64, 8, 2))
_HOPPER_ACCUMULATORS = 128 * 128
# N or Z no multiple of 8: narrow loads, each with its own address, of which 64 rows and 256 columns
# spilled up to 264 bytes. N = 201: Z = 128 takes 226 registers; Z = 256, 191, without wgmma.
_HOPPER_UNALIGNED = (Tile(128, 32, 64, 8, 2), Tile(32, 32, 64, 8, 2))

# sm_80, the same: 198 / 198 registers, 96,256 bytes | 128 / 159, 40,960; Z = 256 with 32 rows, 182
# registers, 96,256 bytes | 128, 53,248, where 64 rows spilled 104 bytes. N = 512, Z = 256: 176
# registers, 135,168 bytes. Unaligned, 64 rows spilled 16 to 48 bytes; 32 take up to 255 registers.
_AMPERE = (Tile(64, 32, 64, 8, 2), Tile(32, 32, 64, 8, 2))
_AMPERE_ACCUMULATORS = 64 * 128
_AMPERE_UNALIGNED = (Tile(32, 32, 64, 8, 2),)

# fp32, Z = 128: exact products take 86 registers and 62,464 bytes, larger tiles spilled; tf32 takes
# 192 and 135,168, with too few rows for wgmma. Not made to be quick: fp32 is for comparing.
_FLOAT32 = (Tile(16, 16, 64, 8, 2),)
_TF32 = (Tile(32, 32, 64, 8, 2), Tile(16, 16, 64, 4, 2))
_TF32_ACCUMULATORS = 32 * 128

# For GPUs with less shared memory (sm_86, sm_89, sm_120) where nothing else fits: 98,304 bytes in
# fp32 with 512 fields, Z = 256, and there it spills.
_SMALLEST = Tile(16, 16, 64, 4, 1)

# What a program of the last kernel adds up, and its warps: 32 registers.
ADD_BLOCK = 512
ADD_WARPS = 4

# Parts for the tiles of which 108 to 132 multiprocessors have room, two programs each. How the rows
# are cut decides how the sums are rounded, so the GPU at hand must not count.
_PROGRAMS = 192
_OUTPUTS_OF_PROGRAM = 128 * 128
_MOST_PARTS = 64
_LEAST_ROWS = 256
_ROWS_STEP = 128


@dataclass(frozen=True)
class WeightTile:
    """What a program makes of the weights' gradients.

    Attributes:
        rows: R of a turn of its loop.
        hidden: U.
        fields: K, the bit that is always set among them.
        columns: of z.
        stages: of the pipeline that loads the rows.
        warps: of a program.
    """

    rows: int
    hidden: int
    fields: int
    columns: int
    stages: int
    warps: int = 8

    def programs(self, fields: int, width: int, hidden: int) -> int:
        """Tiles of [dW1s, db1], dW1z, dW2 and db2."""
        wide = -(-width // self.columns)
        return -(-hidden // self.hidden) * (fields // self.fields + 1 + 2 * wide) + wide


@lru_cache
def row_tile(
    fields: int, width: int, itemsize: int, capability: int, precision: str, *, saved: bool
) -> Tile:
    """The tile of the kernel along the rows.

    Args:
        fields: N.
        width: Z.
        itemsize: bytes of a number.
        capability: the GPU's compute capability times ten.
        precision: input precision of fp32 products, "ieee" or "tf32".
        saved: whether the pre-activations are read, not computed again.
    """
    aligned = fields % 8 == 0 and width % 8 == 0
    tiles: tuple[Tile, ...]
    if itemsize == 4:
        tiles, most = (_FLOAT32 if precision == "ieee" else _TF32), _TF32_ACCUMULATORS
    elif _is_hopper(capability):
        tiles, most = (_HOPPER if aligned else _HOPPER_UNALIGNED), _HOPPER_ACCUMULATORS
    else:
        tiles, most = (_AMPERE if aligned else _AMPERE_UNALIGNED), _AMPERE_ACCUMULATORS
    for tile in tiles:
        shared = shared_bytes(tile, fields, width, itemsize, capability, saved=saved)
        if tile.rows * padded(width) <= most and shared <= shared_limit(capability):
            return tile
    return _SMALLEST


def shared_bytes(
    tile: Tile, fields: int, width: int, itemsize: int, capability: int, *, saved: bool
) -> int:
    """The most shared memory that the kernel along the rows takes with a tile."""
    # Before Hopper products read registers, and the weights of one stage are already there.
    buffers = tile.stages if _is_hopper(capability) else max(1, tile.stages - 1)
    wide = padded(width)
    if saved:
        of_row, of_stage = wide, tile.hidden * (2 * wide + tile.rows)
    else:
        step = sum(chunk_fields(fields, n, tile.fields) for n in range(0, fields, tile.fields))
        of_row = 2 * wide + step
        of_stage = tile.hidden * of_row
    turned = 2 * tile.rows * tile.hidden + (tile.rows * wide if itemsize == 4 else 0)
    return (tile.rows * of_row + buffers * of_stage + turned) * itemsize


@lru_cache
def weight_tile(
    fields: int, width: int, hidden: int, itemsize: int, capability: int, precision: str
) -> WeightTile:
    """The tile of the weights' gradients, smaller where the weights are.

    At N = 200, Z = 128, H = 256 sm_90 takes 120 registers and 98,304 bytes, two programs a
    multiprocessor; sm_80 174 registers, 65,536 bytes. With N = 201, where sums go to memory one by
    one, 216 and 226 registers. tf32: 128 and 220 registers; exact fp32: 128 and 16,384 bytes, and
    tiles of 128 spilled.

    Args:
        fields: N.
        width: Z.
        hidden: H.
        itemsize: bytes of a number.
        capability: the GPU's compute capability times ten.
        precision: input precision of fp32 products, "ieee" or "tf32".
    """
    if itemsize == 4:
        most, rows, stages = (64, 16, 2) if precision == "ieee" else (128, 32, 3)
    else:
        most, rows, stages = (128, 64, 3) if _is_hopper(capability) else (128, 32, 4)
    return WeightTile(
        rows=rows,
        hidden=min(most, max(64, padded(hidden))),  # the fewest rows of wgmma
        fields=min(most, max(32, padded(fields + 1))),
        columns=min(most, padded(width)),
        stages=stages,
    )


def _is_hopper(capability: int) -> bool:
    # sm_120 has the tensor cores of sm_80.
    return 90 <= capability < 120


def rows_of_part(rows: int, fields: int, width: int, hidden: int) -> int:
    """Rows that are summed by themselves, before all parts are added: a function of sizes alone."""
    outputs = max((fields + 1 + 2 * width) * hidden, _OUTPUTS_OF_PROGRAM)
    parts = min(max(round(_PROGRAMS * _OUTPUTS_OF_PROGRAM / outputs), 1), _MOST_PARTS)
    least = max(-(-rows // parts), _LEAST_ROWS)
    return -(-least // _ROWS_STEP) * _ROWS_STEP

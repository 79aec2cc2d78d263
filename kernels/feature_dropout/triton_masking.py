"""Masking of pooled embeddings on a GPU: what is dropped is not even read.

Legend: B rows, N fields, W mask words, D the sum of the fields' widths. A unit is the largest power
of two of columns, 16 bytes at most, that divides all widths: one load, of one field.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import gcd

import torch
import triton
import triton.language as tl
from torch import Tensor

from dropdrift.kernels.feature_dropout.masking import field_of_unit
from dropdrift.kernels.feature_dropout.words import word_count
from dropdrift.kernels.specimen import Specimen

LOAD_BYTES = 16
# Four loads in flight a thread.
BLOCK_UNITS, WARPS, STAGES = 512, 4, 1


@triton.jit(do_not_specialize=["units"])
def mask_features_kernel(
    embedded: tl.tensor,
    words: tl.tensor,
    field_of_unit: tl.tensor,
    masked: tl.tensor,
    units: tl.tensor,
    UNITS_OF_ROW: tl.constexpr,
    UNITS_OF_FIELD: tl.constexpr,
    WORDS: tl.constexpr,
    UNIT: tl.constexpr,
    BLOCK_UNITS: tl.constexpr,
) -> None:
    """x_T = 0 where s, else x_0: [B, D] and words int32 [B, W] to [B, D].

    ``units`` is those of all rows. ``UNITS_OF_FIELD`` is 0 where the widths differ: then
    ``field_of_unit``, int32 [UNITS_OF_ROW], is read.
    """
    start = tl.program_id(0).to(tl.int64) * BLOCK_UNITS
    local = tl.arange(0, BLOCK_UNITS)
    inside = start + local < units
    first_row = start // UNITS_OF_ROW
    position = (start - first_row * UNITS_OF_ROW).to(tl.int32) + local
    row = first_row + position // UNITS_OF_ROW
    unit = position % UNITS_OF_ROW
    field = tl.load(field_of_unit + unit) if UNITS_OF_FIELD == 0 else unit // UNITS_OF_FIELD
    word = tl.load(words + row * WORDS + field // 32, mask=inside, other=0)
    kept = inside & ((word >> (field % 32)) & 1 == 0)
    place = (start + local)[:, None] * UNIT + tl.arange(0, UNIT)[None, :]
    values = tl.load(embedded + place, mask=kept[:, None], other=0.0)
    tl.store(masked + place, values, mask=inside[:, None])


def masked(embedded: Tensor, words: Tensor, widths: Sequence[int]) -> Tensor:
    """Launch the kernel; arguments and result as ``operators.mask_features``."""
    result = torch.empty_like(embedded, memory_format=torch.contiguous_format)
    constants = _constants(tuple(widths), embedded.element_size())
    uniform = constants["UNITS_OF_FIELD"] > 0
    units = embedded.numel() // constants["UNIT"]
    if units == 0:
        return result
    with torch.cuda.device_of(embedded):  # type: ignore[no-untyped-call]  # torch
        mask_features_kernel[(triton.cdiv(units, BLOCK_UNITS),)](
            embedded.contiguous(),
            words.contiguous(),
            None if uniform else field_of_unit(tuple(widths), constants["UNIT"], words.device),
            result,
            units,
            **constants,
            num_warps=WARPS,
            num_stages=STAGES,
        )
    return result


def _constants(widths: tuple[int, ...], element_size: int) -> dict[str, int]:
    """The kernel's constants: the unit is what one load may hold of any field."""
    unit = gcd(*widths, LOAD_BYTES // element_size)
    return {
        "UNITS_OF_ROW": sum(widths) // unit,
        "UNITS_OF_FIELD": widths[0] // unit if len(set(widths)) == 1 else 0,
        "WORDS": word_count(len(widths)),
        "UNIT": unit,
        "BLOCK_UNITS": BLOCK_UNITS,
    }


def specimens(capability: int) -> list[Specimen]:
    """200 fields: all 16 wide in each type, and of different widths."""
    return [
        *(_specimen(dtype, (16,) * 200, "equal", capability) for dtype in ("bf16", "fp16", "fp32")),
        _specimen("bf16", (8, 24) * 100, "different", capability),
    ]


def _specimen(dtype: str, widths: tuple[int, ...], kind: str, capability: int) -> Specimen:
    constants = _constants(widths, element_size=4 if dtype == "fp32" else 2)
    arguments = {"embedded": f"*{dtype}", "words": "*i32", "masked": f"*{dtype}", "units": "i32"}
    equal = constants["UNITS_OF_FIELD"] > 0
    table = {"field_of_unit": "*i32"}
    return Specimen(
        name=f"mask_features {dtype} {kind} widths sm_{capability}",
        kernel=mask_features_kernel,
        arguments=arguments if equal else arguments | table,
        constants={**constants, "field_of_unit": None} if equal else constants,
        divisible=("embedded", "words", "masked")
        if equal
        else ("embedded", "words", "masked", *table),
        capability=capability,
        warps=WARPS,
        stages=STAGES,
        tensor_cores=False,
    )

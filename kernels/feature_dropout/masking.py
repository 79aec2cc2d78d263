"""Masking of pooled embeddings, x_0 to x_T: the reference, and the same quickly in torch.

Legend: B rows, N fields, W mask words, D the sum of the fields' widths.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from math import gcd

import torch
from torch import Tensor

from dropdrift.kernels.feature_dropout.words import unpack_words

_INTEGERS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def masked_reference(embedded: Tensor, words: Tensor, widths: Sequence[int]) -> Tensor:
    """x_T = 0 where s, else x_0; arguments as ``operators.mask_features``."""
    of_column = field_of_unit(tuple(widths), 1, words.device)
    return torch.where(unpack_words(words, len(widths))[:, of_column], 0, embedded)


def masked(embedded: Tensor, words: Tensor, widths: Sequence[int]) -> Tensor:
    """The same by bits: x_0 AND all ones or none, in units of which every field is a multiple.

    No product makes NaN of a dropped NaN, and no mask is as large as the embeddings. At 4,096 rows
    of 200 fields, 16 wide, on one core (best of 15 calls):

    | | float32 | bfloat16 |
    |---|---|---|
    | this | 24 ms | 9 ms |
    | ``embedded * keep``, which keeps NaN | 24 ms | 24 ms |
    | ``torch.where`` | 39 ms | 20 ms |
    | a copy | 21 ms | 4 ms |
    """
    rows, width = embedded.shape
    unit = gcd(*widths)
    if unit == 1:  # then the mask would be as large
        return masked_reference(embedded, words, widths)
    integer = _INTEGERS[embedded.element_size()]
    keep = unpack_words(words, len(widths), integer) - 1  # 1 to no bit, 0 to all
    if len(set(widths)) > 1:
        keep = keep.index_select(1, field_of_unit(tuple(widths), unit, words.device))
    bits = embedded.contiguous().view(integer).view(rows, width // unit, unit)
    return (bits & keep.unsqueeze(-1)).view(rows, width).view(embedded.dtype)


@lru_cache(maxsize=64)  # else each batch would copy it to the GPU
def field_of_unit(widths: tuple[int, ...], unit: int, device: torch.device) -> Tensor:
    """int32 [D / unit], the field of each ``unit`` columns; ``unit`` divides all widths."""
    fields = [field for field, width in enumerate(widths) for _ in range(width // unit)]
    return torch.tensor(fields, dtype=torch.int32, device=device)

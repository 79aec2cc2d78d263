"""Bit-packed feature masks: 32 fields to an int32 word, bit set = missing or dropped.

Legend: B rows, N fields, W = ceil(N / 32) words a row. Field n is bit n % 32 of word n // 32; the
bits beyond field N - 1 are zero.
"""

from __future__ import annotations

import torch
from torch import Tensor

WORD_BITS = 32


def word_count(fields: int) -> int:
    """Words that ``fields`` bits need."""
    return (fields + WORD_BITS - 1) // WORD_BITS


def pack_words(flags: Tensor) -> Tensor:
    """Pack bool [B, N] into int32 [B, W]."""
    rows, fields = flags.shape
    padded = flags.new_zeros(rows, word_count(fields) * WORD_BITS)
    padded[:, :fields] = flags
    bits = padded.view(rows, word_count(fields), WORD_BITS).to(torch.int64)
    shifts = torch.arange(WORD_BITS, device=flags.device)
    return wrap_to_int32((bits << shifts).sum(dim=-1))


def unpack_words(words: Tensor, fields: int, dtype: torch.dtype = torch.bool) -> Tensor:
    """Unpack int32 [B, W] into [B, ``fields``] of 0 and 1."""
    shifts = torch.arange(WORD_BITS, device=words.device, dtype=torch.int32)
    bits = (words.unsqueeze(-1) >> shifts) & 1
    return bits.flatten(1)[:, :fields].to(dtype)


def wrap_to_int32(values: Tensor) -> Tensor:
    """The int32 with the same bits as each unsigned 32-bit value of an int64 tensor."""
    return torch.where(values >= 2**31, values - 2**32, values).to(torch.int32)

"""The masks of a case: the fields that are missing, and what is dropped besides.

B rows, N fields, W mask words.
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from dropdrift.benchmarks.kernels.cases.case import Verdict
from dropdrift.benchmarks.kernels.gate import check_mask
from dropdrift.benchmarks.kernels.providers import is_ours
from dropdrift.kernels.backend import Backend
from dropdrift.kernels.feature_dropout import drop_words, pack_words, unpack_words, word_count

MISSING_RATE = 0.1


class Masks:
    """Naturally missing fields, in sets, as torch's own way and as the operators take them.

    Args:
        rows: B.
        fields: N.
        sets: how many sets.
        seed: of the missing fields and of what is dropped.
        device: where.
    """

    def __init__(self, rows: int, fields: int, sets: int, seed: int, device: torch.device) -> None:
        self.rows, self.fields, self.seed = rows, fields, seed
        generator = torch.Generator(device).manual_seed(seed)
        self.missing = [
            torch.rand(rows, fields, generator=generator, device=device) < MISSING_RATE
            for _ in range(sets)
        ]
        self.missing_words = [pack_words(missing) for missing in self.missing]

    @staticmethod
    def bytes_of(rows: int, fields: int) -> int:
        """Of one set, in both forms."""
        return rows * (fields + 4 * word_count(fields))

    def drop(self, number: int, backend: Backend) -> Tensor:
        """Words int32 [B, W] for the missing fields of a set, as AsymDiffRec makes them."""
        return drop_words(
            self.missing_words[number],
            self.fields,
            seed=self.seed,
            step=number,
            first_row=0,
            backend=backend,
        )

    def flags(self, mask: Tensor) -> Tensor:
        """Bool [B, N] of a mask in any form."""
        if mask.dtype == torch.int32:
            return unpack_words(mask, self.fields)
        return mask != 0

    def verdict(self, name: str, mask: Tensor) -> Verdict:
        """Whether the mask of set 0 is right; dropdrift's are the reference's bit by bit."""
        verdict = check_mask(self.missing[0], self.flags(mask))
        if is_ours(name) and not torch.equal(mask, self.drop(0, "reference")):
            return dataclasses.replace(verdict, problem="the words are not the reference's")
        return verdict

"""Mask words: what is dropped or missing in each row of a batch.

B rows, N fields, W mask words.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dropdrift.benchmarks.kernels.baselines import draw_mask
from dropdrift.benchmarks.kernels.cases.case import (
    Case,
    Cost,
    Provider,
    Result,
    Shape,
    Verdict,
    sets_needed,
)
from dropdrift.benchmarks.kernels.cases.masks import Masks
from dropdrift.benchmarks.kernels.config import ProviderName
from dropdrift.benchmarks.kernels.providers import backend_of, compiled, is_ours
from dropdrift.benchmarks.kernels.sizes import Size
from dropdrift.kernels.feature_dropout import word_count


def mask_words_case(size: Size, seed: int, device: torch.device) -> Case:
    """Missing fields to missing or dropped ones.

    The cost is of packed words, read and written.
    """
    sets = sets_needed(device, Masks.bytes_of(size.rows, size.fields))
    masks = Masks(size.rows, size.fields, sets, seed, device)

    def provider(name: ProviderName) -> Provider:
        """How it computes the forward."""
        if is_ours(name):
            return lambda number: Result(None, masks.drop(number, backend_of(name)))
        draw = compiled(name, draw_mask)
        return lambda number: Result(None, draw(masks.missing[number]))

    def verdict(name: ProviderName, result: Result, _: tuple[Tensor, ...] | None) -> Verdict:
        """Whether a result on set 0 is right."""
        return masks.verdict(name, result.mask)

    return Case(
        shape=Shape("mask-words", size.rows, size.fields, 0, 0, "int32", ""),
        sets=sets,
        provider=provider,
        inputs=lambda number: (masks.missing[number], masks.missing_words[number]),
        gradients=None,
        forward_cost=Cost(2 * 4 * size.rows * word_count(size.fields), 0),
        backward_cost=Cost(0, 0),
        verdict=verdict,
    )

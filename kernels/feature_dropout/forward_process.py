"""The discrete forward process of AsymDiffRec (arXiv paper section 3.2): which features to drop.

The paper draws T ~ Uniform{0..N} and drops T features one after the other, uniformly and without
replacement. The same distribution without sort or loop: draw p ~ Uniform(0, 1) once a row and drop
each feature on its own with probability p. T is then Beta-binomial(N, 1, 1), which is uniform on
{0..N}, and given T all subsets of T features are equally likely.

The N comparisons of a row are made on whole words: with K = 12 random bit planes u_0..u_11 and
the digits of a 12-bit threshold t, "u < t" for 32 fields at once takes 12 bitwise steps. p takes
the values j / 2^12 for j = 0..2^12 with half the weight on both ends (the trapezoid rule), which
keeps every P(T = k) within 2e-4 of 1 / (N + 1), relatively, for 200 fields (1.3e-3 for 512).

With a largest rate below 1, a whole number of ``levels`` of 2^-12, t is j levels / 2^12 rounded up
or down at random, so that its mean is exact. All of it is integer arithmetic: each backend, on any
machine, makes the same words.

Words are keyed by (seed, step, global row): the same for any number of ranks, any slicing of a
batch, and after a restart.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from dropdrift.kernels.feature_dropout.words import WORD_BITS, wrap_to_int32
from dropdrift.kernels.philox import MASK32, philox4x32

PLANES = 12
LEVELS = 1 << PLANES
# Counter word 3 tells the draws of one row and step apart: 0 for p, 1..3 for the bit planes.
_STREAM_OF_RATE = 0


def make_words(
    missing: Tensor,
    fields: int,
    seed: int,
    step: int,
    first_row: int,
    max_rate: float,
    rate: float | None,
) -> Tensor:
    """The reference of ``operators.drop_words``: its arguments, already checked."""
    rows, words = missing.shape
    row = torch.arange(first_row, first_row + rows, device=missing.device).unsqueeze(1)
    column = torch.arange(words, device=missing.device).unsqueeze(0)
    levels = rate_levels(max_rate, rate)
    if rate is None:
        threshold = _random_thresholds(row, seed, step, levels)
    else:
        threshold = torch.full_like(row, levels)
    dropped = _bernoulli_words(row, column, threshold, seed, step)
    return missing | (dropped & _used_bits(fields, missing.device))


def rate_levels(max_rate: float, rate: float | None) -> int:
    """The fixed or largest rate in units of 1 / LEVELS: all else is integer arithmetic."""
    return round((max_rate if rate is None else rate) * LEVELS)


def _random_thresholds(row: Tensor, seed: int, step: int, levels: int) -> Tensor:
    """Random t in {0..levels}, int64 [B, 1]: p = t / LEVELS."""
    stream = torch.full_like(row, _STREAM_OF_RATE)
    word0, word1, word2, _ = philox4x32((row, stream, torch.full_like(row, step), stream), seed)
    excess = WORD_BITS - PLANES
    trapezoid = (word0 >> excess) + (word1 & 1)
    return (trapezoid * levels + (word2 >> excess)) >> PLANES


def _bernoulli_words(
    row: Tensor, column: Tensor, threshold: Tensor, seed: int, step: int
) -> Tensor:
    """Words whose bits are set with probability threshold / LEVELS each, int32 [B, W]."""
    step_word = torch.full_like(row, step)
    planes: list[Tensor] = []
    for stream in range(1, PLANES // 4 + 1):
        planes += philox4x32((row, column, step_word, torch.full_like(row, stream)), seed)
    less = torch.zeros_like(planes[0])
    for bit, plane in enumerate(planes):  # from the lowest digit to the highest
        digit_set = (threshold >> bit) & 1 == 1
        not_plane = plane ^ MASK32
        less = torch.where(digit_set, not_plane | less, not_plane & less)
    return wrap_to_int32(torch.where(threshold == LEVELS, torch.full_like(less, MASK32), less))


@lru_cache(maxsize=16)  # else each batch would copy them to the GPU
def _used_bits(fields: int, device: torch.device) -> Tensor:
    """int32 [W], the bits of the fields that there are."""
    full, rest = divmod(fields, WORD_BITS)
    words = [MASK32] * full + ([(1 << rest) - 1] if rest else [])
    return wrap_to_int32(torch.tensor(words, dtype=torch.int64, device=device))

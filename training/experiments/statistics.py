"""Intervals for differences that are paired: by seed with Student's t, by user with the bootstrap.

The two answer different questions. Over seeds: would other seeds on these users tell the same?
Over users: would these seeds tell the same of other users?
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

LEVEL = 0.95
RESAMPLES = 4000
CHUNK_ROWS = 2**21

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """A confidence interval; ``low`` and ``high`` are NaN where it is not defined."""

    low: float
    high: float

    def text(self, form: str = "+.4f") -> str:
        """``[low, high]``; nothing where it is not defined."""
        return "" if math.isnan(self.low) else f"[{self.low:{form}}, {self.high:{form}}]"


UNDEFINED = Interval(math.nan, math.nan)


def t_interval(values: Sequence[float], level: float = LEVEL) -> Interval:
    """Student's t interval of the mean of independent values, such as differences by seed.

    Undefined for fewer than two.
    """
    if len(values) < 2:
        return UNDEFINED
    half = t_quantile((1 + level) / 2, len(values) - 1)
    half *= statistics.stdev(values) / math.sqrt(len(values))
    mean = statistics.fmean(values)
    return Interval(mean - half, mean + half)


def t_quantile(probability: float, degrees: int) -> float:
    """The quantile of Student's t distribution, to 12 digits.

    Args:
        probability: between 0.5 and 1.
        degrees: of freedom, at least 1.
    """
    assert 0.5 <= probability < 1
    assert degrees >= 1
    low, high = 0.0, 1.0
    while _t_below(high, degrees) < probability:
        high *= 2
    for _ in range(100):
        middle = (low + high) / 2
        if _t_below(middle, degrees) < probability:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def _t_below(t: float, degrees: int) -> float:
    """P(T <= t) for t >= 0: Abramowitz and Stegun, 26.7.3 and 26.7.4."""
    theta = math.atan2(t, math.sqrt(degrees))
    cosine = math.cos(theta)
    odd = degrees % 2
    term, total = (cosine if odd else 1.0), 0.0
    for k in range(2 + odd, degrees + 1, 2):
        total += term
        term *= (k - 1) / k * cosine * cosine
    inside = math.sin(theta) * total
    share = 2 / math.pi * (theta + inside) if odd else inside
    return (1 + share) / 2


def bootstrap_intervals(
    values: Floats,
    weights: Floats | None = None,
    *,
    seed: int = 0,
    level: float = LEVEL,
    resamples: int = RESAMPLES,
) -> list[Interval]:
    """Percentile bootstrap intervals of sum(values) / sum(weights), rows drawn with replacement.

    A row is a user, so that the rows of the data that belong together are drawn together. A
    resample whose weights sum to 0 says nothing of the ratio and is left out.

    Args:
        values: one row for each user, one column for each quantity, [R, Q]; a user's quantities
            stay together.
        weights: likewise; without, all are 1, and the ratios are the columns' means.
        seed: of the draws.
        level: of confidence.
        resamples: how many times R rows are drawn.

    Returns:
        One for each quantity; undefined where fewer than two rows have a weight other than 0.
    """
    rows, columns = values.shape
    assert weights is None or weights.shape == values.shape
    if rows < 2:
        return [UNDEFINED] * columns
    if weights is None:
        means = _resampled_sums(values, seed, resamples) / rows
        return [_percentiles(column, level) for column in means.T]
    sums = _resampled_sums(np.concatenate([values, weights], axis=1), seed, resamples)
    return [
        _percentiles(numerator[denominator != 0] / denominator[denominator != 0], level)
        if weighty > 1
        else UNDEFINED
        for numerator, denominator, weighty in zip(
            sums.T[:columns], sums.T[columns:], np.count_nonzero(weights, axis=0), strict=True
        )
    ]


def _resampled_sums(values: Floats, seed: int, resamples: int) -> Floats:
    """The columns' sums, [resamples, Q], over as many rows drawn as there are."""
    rows, columns = values.shape
    generator = np.random.default_rng(seed)
    sums = np.empty((resamples, columns))
    step = max(1, CHUNK_ROWS // rows)
    for start in range(0, resamples, step):
        count = min(step, resamples - start)
        drawn = generator.integers(0, rows, (count, rows)) + rows * np.arange(count)[:, None]
        times = np.bincount(drawn.ravel(), minlength=count * rows).reshape(count, rows)
        sums[start : start + count] = times @ values
    return sums


def _percentiles(values: Floats, level: float) -> Interval:
    tail = (1 - level) / 2
    low, high = np.quantile(values, [tail, 1 - tail])
    return Interval(float(low), float(high))

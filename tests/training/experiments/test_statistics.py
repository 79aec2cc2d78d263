"""Intervals against reference implementations."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from dropdrift.training.experiments import statistics
from dropdrift.training.experiments.statistics import (
    bootstrap_intervals,
    t_interval,
    t_quantile,
)

Columns = NDArray[np.float64]


@pytest.mark.parametrize("degrees", [1, 2, 3, 4, 7, 30, 101])
@pytest.mark.parametrize("probability", [0.5, 0.75, 0.975, 0.995])
def test_quantiles_of_student_are_scipys(degrees: int, probability: float) -> None:
    expected = stats.t.ppf(probability, degrees)
    assert t_quantile(probability, degrees) == pytest.approx(expected, rel=1e-10, abs=1e-12)


def test_t_interval_is_scipys() -> None:
    values = np.random.default_rng(1).normal(0.01, 0.02, 5)
    low, high = stats.t.interval(0.95, 4, values.mean(), stats.sem(values))
    interval = t_interval(values.tolist())
    assert (interval.low, interval.high) == pytest.approx((low, high))
    paired = stats.ttest_rel(values, np.zeros(5)).confidence_interval(0.95)
    assert (interval.low, interval.high) == pytest.approx((paired.low, paired.high))


@pytest.mark.parametrize("values", [[], [0.3]])
def test_one_seed_has_no_interval(values: list[float]) -> None:
    interval = t_interval(values)
    assert math.isnan(interval.low)
    assert interval.text() == ""


def test_bootstrap_is_near_scipys() -> None:
    values = np.random.default_rng(2).exponential(size=(300, 2))
    for column, interval in enumerate(bootstrap_intervals(values, resamples=20_000)):
        expected = stats.bootstrap(
            (values[:, column],),
            np.mean,
            n_resamples=20_000,
            method="percentile",
            rng=np.random.default_rng(3),
        ).confidence_interval
        width = expected.high - expected.low
        assert interval.low == pytest.approx(expected.low, abs=0.03 * width)
        assert interval.high == pytest.approx(expected.high, abs=0.03 * width)


def test_bootstrap_is_the_same_for_the_same_seed_and_any_block_of_columns() -> None:
    values = np.random.default_rng(4).normal(size=(50, 3))
    both = bootstrap_intervals(values, seed=5)
    assert both == bootstrap_intervals(values, seed=5)
    for column in range(3):
        alone = bootstrap_intervals(values[:, [column]], seed=5)[0]
        assert (alone.low, alone.high) == pytest.approx((both[column].low, both[column].high))
    assert both != bootstrap_intervals(values, seed=6)


def test_bootstrap_of_one_user_is_undefined() -> None:
    assert math.isnan(bootstrap_intervals(np.ones((1, 1)))[0].low)


def ratios_by_hand(
    values: Columns, weights: Columns, seed: int, resamples: int
) -> list[list[float]]:
    """Of each column, one draw and one row after the other."""
    generator = np.random.default_rng(seed)
    found: list[list[float]] = [[] for _ in values.T]
    for _ in range(resamples):
        rows = generator.integers(0, len(values), len(values)).tolist()
        for column, kept in enumerate(found):
            weight = math.fsum(weights[row, column] for row in rows)
            if weight:
                kept.append(math.fsum(values[row, column] for row in rows) / weight)
    return found


def test_ratios_are_those_of_loops_over_resamples_and_rows() -> None:
    generator = np.random.default_rng(7)
    weights = generator.integers(0, 4, (40, 3)).astype(float)
    weights[3:, 2] = 0  # In some resamples nobody counts.
    values = weights * generator.normal(0.7, 0.1, (40, 3))
    by_hand = ratios_by_hand(values, weights, seed=8, resamples=300)
    assert [len(kept) for kept in by_hand[:2]] == [300, 300]
    assert 250 < len(by_hand[2]) < 300
    intervals = bootstrap_intervals(values, weights, seed=8, level=0.9, resamples=300)
    for interval, kept in zip(intervals, by_hand, strict=True):
        expected = np.quantile(kept, [0.05, 0.95])
        assert (interval.low, interval.high) == pytest.approx(expected, rel=1e-12)


def test_ratios_do_not_depend_on_how_many_are_drawn_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    weights = np.random.default_rng(9).exponential(size=(31, 2))
    values = np.random.default_rng(10).normal(size=(31, 2))
    together = bootstrap_intervals(values, weights, resamples=200)
    for rows in (1, 7 * 31 + 1):
        monkeypatch.setattr(statistics, "CHUNK_ROWS", rows)
        apart = bootstrap_intervals(values, weights, resamples=200)
        for interval, other in zip(apart, together, strict=True):
            assert (interval.low, interval.high) == pytest.approx((other.low, other.high))


def test_bootstrap_of_ratios_is_near_scipys() -> None:
    generator = np.random.default_rng(11)
    weights = generator.exponential(size=(200, 1))
    values = weights * generator.normal(1, 0.5, (200, 1))
    (interval,) = bootstrap_intervals(values, weights, resamples=20_000)
    expected = stats.bootstrap(
        (values[:, 0], weights[:, 0]),
        lambda above, below, axis: above.sum(axis) / below.sum(axis),
        n_resamples=20_000,
        paired=True,
        vectorized=True,
        method="percentile",
        rng=np.random.default_rng(12),
    ).confidence_interval
    width = expected.high - expected.low
    assert interval.low == pytest.approx(expected.low, abs=0.03 * width)
    assert interval.high == pytest.approx(expected.high, abs=0.03 * width)


def test_weights_of_one_give_means() -> None:
    values = np.random.default_rng(13).normal(size=(60, 2))
    means = bootstrap_intervals(values, resamples=500)
    for mean, ratio in zip(
        means, bootstrap_intervals(values, np.ones_like(values), resamples=500), strict=True
    ):
        assert (ratio.low, ratio.high) == pytest.approx((mean.low, mean.high), rel=1e-12)


@pytest.mark.parametrize("users", [0, 1])
def test_ratio_to_which_fewer_than_two_users_count_is_undefined(users: int) -> None:
    weights = np.ones((50, 2))
    weights[users:, 0] = 0
    first, second = bootstrap_intervals(weights * 0.5, weights, resamples=50)
    assert math.isnan(first.low)
    assert math.isnan(first.high)
    assert (second.low, second.high) == (0.5, 0.5)


def test_values_that_are_not_defined_have_no_interval_and_leave_the_others_theirs() -> None:
    values = np.ones((50, 2))
    values[3, 0] = math.nan
    for weights in (None, np.ones((50, 2))):
        first, second = bootstrap_intervals(values, weights, resamples=50)
        assert first.text() == ""
        assert (second.low, second.high) == (1, 1)

"""Intervals against reference implementations."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from dropdrift.training.experiments.statistics import (
    bootstrap_intervals,
    t_interval,
    t_quantile,
)


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

"""Ranking metrics by user: the metric itself, and its bootstrap over users."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from dropdrift.training.experiments.by_user import MEASURES, Measure, UserSums, user_values
from dropdrift.training.experiments.statistics import bootstrap_intervals
from dropdrift.training.metrics import ranking_metrics, user_groups

Integers = NDArray[np.int64]
Floats = NDArray[np.float32]

RATIOS: tuple[Measure, ...] = ("uauc", "log_loss", "calibration")
LINEARISED: tuple[Measure, ...] = ("auc", "normalised_entropy")


class Rows(NamedTuple):
    """Two models on the same rows."""

    base: Floats
    new: Floats
    labels: Floats
    users: Integers


def simulated(generator: np.random.Generator, users: int) -> Rows:
    """Twelve rows a user in the mean, alike in their label and in either model's error."""
    sizes = 1 + generator.poisson(11, users)
    codes = np.repeat(np.arange(1, users + 1), sizes)
    known, liking = generator.normal(size=len(codes)), generator.normal(size=users)[codes - 1]
    errors = generator.normal(size=(2, len(codes)))
    errors += generator.normal(0, 1.5, (2, users))[:, codes - 1]
    labels = generator.random(len(codes)) < 1 / (1 + np.exp(0.5 - liking - known))
    return Rows(
        base=(0.5 * liking + 0.8 * known + errors[0]).astype(np.float32),
        new=(0.6 * liking + known + errors[1]).astype(np.float32),
        labels=labels.astype(np.float32),
        users=codes,
    )


def metric(measure: Measure, logits: Floats, labels: Floats, users: Integers) -> float:
    """As evaluations have it."""
    return float(getattr(ranking_metrics(logits, labels, user_groups(users)), measure))


def of_all(sums: UserSums) -> float:
    weight = sums.weights.sum()
    return float(sums.values.sum() / weight) if weight else math.nan


def resampled(rows: Rows, drawn: Integers) -> Rows:
    """The rows of the users drawn; one that is drawn twice is two users."""
    picked = [np.flatnonzero(rows.users == user) for user in drawn]
    users = np.repeat(np.arange(1, len(drawn) + 1), [len(rows) for rows in picked])
    index = np.concatenate(picked)
    return Rows(rows.base[index], rows.new[index], rows.labels[index], users)


some_rows = st.lists(
    st.tuples(
        st.sampled_from([-3.0, -0.5, 0.0, -0.0, 0.25, 40.0]) | st.floats(-50, 50, width=32),
        st.sampled_from([0.0, 1.0, math.nan]),
        st.sampled_from([0, 1, 2, 3, 2**62]),
    ),
    max_size=30,
)


@pytest.mark.parametrize("measure", MEASURES)
@given(table=some_rows)
def test_sums_over_users_are_the_metric(
    measure: Measure, table: list[tuple[float, float, int]]
) -> None:
    """With ties, unknown labels and users, and users of one class."""
    columns = zip(*table, (0.0, 0.0, 1), (0.1, 1.0, 5), strict=True)
    logits, labels, users = (np.array(column) for column in columns)
    sums = user_values(measure, logits.astype(np.float32), labels.astype(np.float32), users)
    expected = metric(measure, logits.astype(np.float32), labels.astype(np.float32), users)
    assert of_all(sums) == pytest.approx(expected, rel=1e-12, abs=1e-12, nan_ok=True)
    assert sums.users.tolist() == sorted(set(user_groups(users).tolist()))
    assert sums.values.shape == sums.weights.shape == sums.users.shape
    assert np.isfinite(sums.values).all()


@pytest.mark.parametrize("measure", MEASURES)
def test_sums_over_many_rows_are_the_metric(measure: Measure) -> None:
    rows = simulated(np.random.default_rng(1), 4000)
    labels = np.where(np.random.default_rng(2).random(len(rows.labels)) < 0.1, np.nan, rows.labels)
    logits = rows.new.round(1)
    sums = user_values(measure, logits, labels, rows.users)
    assert of_all(sums) == pytest.approx(metric(measure, logits, labels, rows.users), rel=1e-12)


def test_users_and_weights_are_the_same_for_two_models() -> None:
    rows = simulated(np.random.default_rng(3), 50)
    for measure in MEASURES:
        base = user_values(measure, rows.base, rows.labels, rows.users)
        new = user_values(measure, rows.new, rows.labels, rows.users)
        assert np.array_equal(base.users, new.users)
        assert np.array_equal(base.weights, new.weights)
        assert not np.array_equal(base.values, new.values)


def test_a_user_without_a_known_label_has_no_weight_or_no_influence() -> None:
    logits = np.array([0.3, 0.1, 0.2, 0.4], np.float32)
    labels = np.array([1, 0, 0, np.nan], np.float32)
    for measure in MEASURES:
        sums = user_values(measure, logits, labels, np.array([5, 5, 6, 7]))
        assert sums.users.tolist() == [5, 6, 7]
        assert sums.weights[2] == (1 if measure in LINEARISED else 0)
        whole = metric(measure, logits, labels, sums.users[[0, 0, 1, 2]])
        assert sums.values[2] == pytest.approx(whole if measure in LINEARISED else 0)


def test_rows_without_users_are_users_each() -> None:
    rows = simulated(np.random.default_rng(4), 20)
    nobody = np.zeros_like(rows.users)
    assert len(user_values("auc", rows.new, rows.labels, nobody).users) == len(nobody)
    assert not user_values("uauc", rows.new, rows.labels, nobody).weights.any()
    assert user_values("log_loss", rows.new, rows.labels, nobody).weights.tolist() == [1] * len(
        nobody
    )


@pytest.mark.parametrize("measure", RATIOS)
def test_a_ratio_over_users_drawn_is_the_metric_of_their_rows(measure: Measure) -> None:
    rows = simulated(np.random.default_rng(5), 60)
    sums = user_values(measure, rows.new, rows.labels, rows.users)
    generator = np.random.default_rng(6)
    for _ in range(20):
        drawn = generator.integers(0, 60, 60)
        ratio = sums.values[drawn].sum() / sums.weights[drawn].sum()
        again = resampled(rows, sums.users[drawn])
        expected = metric(measure, again.new, again.labels, again.users)
        assert ratio == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("measure", LINEARISED)
def test_what_is_linearised_moves_as_the_metric_of_the_users_drawn(measure: Measure) -> None:
    """To first order, for one model and for the difference of two."""
    rows = simulated(np.random.default_rng(7), 200)
    base, new = (
        user_values(measure, logits, rows.labels, rows.users) for logits in (rows.base, rows.new)
    )
    generator = np.random.default_rng(8)
    found, expected = [], []
    for _ in range(100):
        drawn = generator.integers(0, 200, 200)
        values = [sums.values[drawn].mean() for sums in (base, new)]
        found.append((values[1], values[1] - values[0]))
        again = resampled(rows, new.users[drawn])
        exact = [metric(measure, x, again.labels, again.users) for x in (again.base, again.new)]
        expected.append((exact[1], exact[1] - exact[0]))
    spread = np.std(expected, axis=0)
    errors = np.sqrt(np.square(np.subtract(found, expected)).mean(axis=0))
    assert (errors < 0.15 * spread).all(), errors / spread


def test_interval_of_auc_is_that_of_a_bootstrap_with_scikit_learns() -> None:
    """Over the same draws."""
    rows = simulated(np.random.default_rng(9), 150)
    base, new = (
        user_values("auc", logits, rows.labels, rows.users) for logits in (rows.base, rows.new)
    )
    columns = np.stack([new.values, new.values - base.values], axis=1)
    intervals = bootstrap_intervals(columns, np.ones_like(columns), seed=10, resamples=250)
    generator = np.random.default_rng(10)
    exact = []
    for _ in range(250):
        times = np.bincount(generator.integers(0, 150, 150), minlength=150)[rows.users - 1]
        aucs = [roc_auc_score(rows.labels, x, sample_weight=times) for x in (rows.base, rows.new)]
        exact.append((aucs[1], aucs[1] - aucs[0]))
    for interval, low, high in zip(
        intervals, *np.quantile(exact, [0.025, 0.975], axis=0), strict=True
    ):
        assert interval.low == pytest.approx(low, abs=0.05 * (high - low))
        assert interval.high == pytest.approx(high, abs=0.05 * (high - low))


def paired_columns(rows: Rows) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Values and weights of every measure's difference, then of its RelaImpr."""
    values, weights = [], []
    for measure in MEASURES:
        base = user_values(measure, rows.base, rows.labels, rows.users)
        new = user_values(measure, rows.new, rows.labels, rows.users)
        values += [new.values - base.values] * 2
        weights += [base.weights, base.values]
    return np.stack(values, axis=1), np.stack(weights, axis=1)


def test_intervals_of_differences_cover_the_true_ones_as_often_as_they_say() -> None:
    """Of 400 samples of 100 users 380 are expected, give or take 4.4."""
    generator = np.random.default_rng(11)
    values, weights = paired_columns(simulated(generator, 50_000))
    truth = values.sum(axis=0) / weights.sum(axis=0)
    covered = np.zeros(len(truth), int)
    by_row = 0
    for number in range(400):
        rows = simulated(generator, 100)
        found = bootstrap_intervals(*paired_columns(rows), seed=number, resamples=300)
        covered += [i.low <= true <= i.high for i, true in zip(found, truth, strict=True)]
        # As if the rows of a user were independent.
        alone = rows._replace(users=np.arange(1, len(rows.users) + 1))
        columns = [part[:, :1] for part in paired_columns(alone)]
        (interval,) = bootstrap_intervals(*columns, seed=number, resamples=100)
        by_row += interval.low <= truth[0] <= interval.high
    assert (covered >= 363).all(), covered
    assert (covered <= 395).all(), covered
    assert by_row < 350


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize(
    ("logits", "labels", "message"),
    [
        ([0.1, 0.2], [1, 1], "label 'like': all 2 known labels are 1"),
        ([0.1, 0.2], [math.nan, math.nan], "label 'like': no row has a known label"),
        ([0.1, math.nan], [0, 1], "label 'like': 1 of 2 predictions are not finite"),
    ],
)
def test_says_what_is_wrong_as_the_metrics_do(
    measure: Measure, logits: list[float], labels: list[float], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        user_values(measure, np.array(logits), np.array(labels), np.array([1, 2]), "label 'like'")

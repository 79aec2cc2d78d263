from __future__ import annotations

import dataclasses
import math
import time
from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray
from sklearn import metrics as sklearn

from dropdrift.training.metrics import (
    RankingMetrics,
    calibration_table,
    placement_values,
    ranking_metrics,
    relative_improvement,
)

# AsymDiffRec, Table 2: AUC, RelaImpr of AUC, UAUC, RelaImpr of UAUC (both in %).
BASE_AUC, BASE_UAUC = 0.92267, 0.61578
TABLE_2 = {
    "CDAE": (0.92220, -0.051, 0.61600, 0.036),
    "MultiVAE": (0.92285, 0.020, 0.61834, 0.416),
    "SSL": (0.92297, 0.033, 0.62009, 0.700),
    "DiffRec": (0.92307, 0.043, 0.62152, 0.932),
    "AsymDiffRec": (0.92359, 0.100, 0.62614, 1.682),
    "w/o recon": (0.92276, 0.010, 0.62025, 0.726),
    "w/o aux": (0.92248, -0.021, 0.62069, 0.797),
}


def brute_force_auc(logits: list[float], labels: list[float]) -> float:
    positives = [x for x, y in zip(logits, labels, strict=True) if y == 1]
    negatives = [x for x, y in zip(logits, labels, strict=True) if y == 0]
    pairs = [(p, n) for p in positives for n in negatives]
    return sum((p > n) + (p == n) / 2 for p, n in pairs) / len(pairs) if pairs else math.nan


def brute_force_uauc(
    logits: list[float], labels: list[float], users: list[int]
) -> tuple[float, int, int]:
    by_user = defaultdict(list)
    for row, user in enumerate(users):
        if not math.isnan(labels[row]):
            by_user[user].append(row)
    total, weight, counted = 0.0, 0, 0
    for rows in by_user.values():
        auc = brute_force_auc([logits[i] for i in rows], [labels[i] for i in rows])
        if not math.isnan(auc):
            total, weight, counted = total + auc * len(rows), weight + len(rows), counted + 1
    return (total / weight if weight else math.nan), counted, len(by_user) - counted


def rows(seed: int, count: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Logits with ties, and labels drawn from them."""
    generator = np.random.default_rng(seed)
    logits = generator.normal(-1, 1.5, count).round(1).astype(np.float32)
    labels = (generator.random(count) < 1 / (1 + np.exp(-logits))).astype(np.float32)
    return logits, labels


def metrics_of(table: list[tuple[float, float, int]]) -> RankingMetrics:
    logits, labels, users = zip(*table, strict=True)
    return ranking_metrics(np.array(logits), np.array(labels), np.array(users))


some_rows = st.lists(
    st.tuples(
        st.sampled_from([-3.0, -0.5, 0.0, -0.0, 0.25, 40.0]) | st.floats(-50, 50, width=32),
        st.sampled_from([0.0, 1.0, math.nan]),
        st.sampled_from([-7, 0, 1, 2**62]),
    ),
    min_size=1,
    max_size=30,
)


@given(some_rows)
def test_equals_counting_pairs_one_by_one(table: list[tuple[float, float, int]]) -> None:
    logits, labels, users = (list(column) for column in zip(*table, strict=True))
    arguments = np.array(logits, np.float32), np.array(labels, np.float32), np.array(users)
    if not {0.0, 1.0} <= set(labels):
        with pytest.raises(ValueError, match=r"no row has a known label|all \d+ known labels"):
            ranking_metrics(*arguments)
        return
    result = ranking_metrics(*arguments)
    assert result.rows == sum(not math.isnan(y) for y in labels)
    assert result.positives == labels.count(1.0)
    assert result.auc == pytest.approx(brute_force_auc(logits, labels), rel=1e-14)
    uauc, counted, left_out = brute_force_uauc(logits, labels, users)
    assert result.uauc == pytest.approx(uauc, rel=1e-14, nan_ok=True)
    assert (result.users_counted, result.users_left_out) == (counted, left_out)
    assert math.isnan(result.uauc) == (counted == 0)


@pytest.mark.parametrize("count", [3, 63, 500, 20_000])
def test_equals_scikit_learn(count: int) -> None:
    logits, labels = rows(3, count)
    labels[:2] = 0, 1
    result = ranking_metrics(logits, labels)
    probabilities = 1 / (1 + np.exp(-logits.astype(np.float64)))
    assert result.auc == pytest.approx(sklearn.roc_auc_score(labels, logits), rel=1e-12)
    assert result.log_loss == pytest.approx(sklearn.log_loss(labels, probabilities), rel=1e-12)
    always = np.full(count, labels.mean(dtype=np.float64))
    entropy = sklearn.log_loss(labels, always)
    assert result.normalised_entropy == pytest.approx(result.log_loss / entropy, rel=1e-12)
    expected = probabilities.mean() / labels.mean(dtype=np.float64)
    assert result.calibration == pytest.approx(expected, rel=1e-12)


@given(some_rows, st.randoms(use_true_random=False))
def test_order_of_rows_does_not_matter(
    table: list[tuple[float, float, int]], random: object
) -> None:
    table = [*table, (0.0, 0.0, 0), (0.1, 1.0, 0)]
    shuffled = list(table)
    random.shuffle(shuffled)  # type: ignore[attr-defined]  # hypothesis draws a random.Random
    first, second = metrics_of(table), metrics_of(shuffled)
    assert (first.auc, first.uauc) == (second.auc, second.uauc)
    assert dataclasses.astuple(first) == pytest.approx(dataclasses.astuple(second), rel=1e-12)


def test_placement_values_are_shares_of_the_pairs_of_a_row() -> None:
    logits, labels = rows(7, 300)
    placements = placement_values(logits, labels)
    for logit, label, placement in zip(logits, labels, placements, strict=True):
        others = logits[labels != label]
        below, above = (others < logit).mean(), (others > logit).mean()
        won = below if label else above
        assert placement == pytest.approx(won + (1 - below - above) / 2, rel=1e-14)
    auc = ranking_metrics(logits, labels).auc
    for label in (0, 1):
        assert placements[labels == label].mean() == pytest.approx(auc, rel=1e-14)


def test_uauc_weights_users_by_their_rows() -> None:
    # User 5: two rows, ranked wrongly. User 9: three rows, one pair of two right. User 1: one row.
    users = np.array([5, 9, 1, 5, 9, 9])
    labels = np.array([1.0, 1, 1, 0, 0, 0])
    logits = np.array([0.1, 0.5, 0.3, 0.2, 0.4, 0.6])
    result = ranking_metrics(logits, labels, users)
    assert result.uauc == pytest.approx((2 * 0 + 3 * 0.5) / 5)
    assert (result.users_counted, result.users_left_out) == (2, 1)


def test_uauc_is_undefined_without_users() -> None:
    logits, labels = rows(1, 100)
    result = ranking_metrics(logits, labels)
    assert math.isnan(result.uauc)
    assert (result.users_counted, result.users_left_out) == (0, 0)
    every_row_its_own_user = ranking_metrics(logits, labels, np.arange(100))
    assert math.isnan(every_row_its_own_user.uauc)
    assert (every_row_its_own_user.users_counted, every_row_its_own_user.users_left_out) == (0, 100)


def test_unknown_labels_are_left_out_of_everything() -> None:
    logits, labels = rows(2, 1000)
    users = np.arange(1000) % 50
    unknown = np.arange(1000) % 3 == 0
    masked = np.where(unknown, np.nan, labels)
    kept = ranking_metrics(logits[~unknown], labels[~unknown], users[~unknown])
    assert ranking_metrics(logits, masked, users) == kept
    assert calibration_table(logits, masked) == calibration_table(
        logits[~unknown], labels[~unknown]
    )


def test_extreme_logits_have_a_finite_loss() -> None:
    result = ranking_metrics(np.array([-1e4, 1e4, 800.0]), np.array([1.0, 0.0, 1.0]))
    assert result.log_loss == pytest.approx(2e4 / 3)
    right = ranking_metrics(np.array([-40.0, 40.0]), np.array([0.0, 1.0]))
    assert right.log_loss == pytest.approx(math.exp(-40))
    assert right.normalised_entropy == pytest.approx(math.exp(-40) / math.log(2))


def test_base_rate_alone_has_normalised_entropy_and_calibration_of_one() -> None:
    labels = np.array([1.0, 0, 0, 0])
    result = ranking_metrics(np.full(4, math.log(1 / 3)), labels)
    assert result.auc == 0.5
    assert result.normalised_entropy == pytest.approx(1)
    assert result.calibration == pytest.approx(1)
    twice_as_sure = ranking_metrics(np.full(4, 0.0), labels)
    assert twice_as_sure.calibration == pytest.approx(2)


@pytest.mark.parametrize(
    ("logits", "labels", "message"),
    [
        ([0.1, 0.2], [1, 1], "label 'like': all 2 known labels are 1; AUC needs"),
        ([0.1, 0.2, 0.3], [0, 0, math.nan], "label 'like': all 2 known labels are 0"),
        ([0.1, 0.2], [math.nan, math.nan], "label 'like': no row has a known label"),
        ([], [], "label 'like': no row has a known label"),
        ([0.1, math.nan, math.inf], [0, 1, math.nan], "2 of 3 predictions are not finite"),
        ([0.1, 0.2, 0.3], [0, 1, 2], "label 'like': 1 labels are not 0 or 1, such as 2"),
    ],
)
def test_says_what_is_wrong(logits: list[float], labels: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        ranking_metrics(np.array(logits), np.array(labels, float), what="label 'like'")
    assert "\n" not in str(caught.value)


@given(
    arrays.arrays(
        np.float64, st.integers(2, 80), elements=st.floats(-5, 5).map(lambda x: round(x))
    ),
    st.integers(1, 12),
)
def test_calibration_buckets_cover_all_rows_and_keep_ties_together(
    logits: NDArray[np.float64], buckets: int
) -> None:
    labels = np.arange(len(logits)) % 2.0
    table = calibration_table(logits, labels, buckets)
    assert 1 <= len(table) <= buckets
    assert sum(bucket.rows for bucket in table) == len(logits)
    assert sum(bucket.rows * bucket.label for bucket in table) == pytest.approx(labels.sum())
    predictions = [bucket.prediction for bucket in table]
    assert predictions == sorted(set(predictions))
    mean = 1 / (1 + np.exp(-logits))
    assert sum(b.rows * b.prediction for b in table) == pytest.approx(mean.sum())


def test_calibration_buckets_of_distinct_predictions_are_equal() -> None:
    generator = np.random.default_rng(0)
    logits = generator.permutation(np.linspace(-2, 2, 1000))
    table = calibration_table(logits, (logits > 0).astype(float), buckets=10)
    assert [bucket.rows for bucket in table] == pytest.approx([100] * 10, abs=1)
    assert table[0].label == 0
    assert table[-1].label == 1


@pytest.mark.parametrize("model", TABLE_2)
def test_relative_improvement_is_that_of_the_paper(model: str) -> None:
    auc, auc_percent, uauc, uauc_percent = TABLE_2[model]
    assert round(100 * relative_improvement(auc, BASE_AUC), 3) == auc_percent
    assert round(100 * relative_improvement(uauc, BASE_UAUC), 3) == uauc_percent


def test_a_million_rows_of_many_users_take_seconds_at_most() -> None:
    logits, labels = rows(5, 1_000_000)
    users = np.random.default_rng(6).integers(0, 2**62, 200_000)
    start = time.perf_counter()
    result = ranking_metrics(logits, labels, np.resize(users, 1_000_000))
    assert (
        time.perf_counter() - start < 10
    )  # Half a second when vectorised; minutes in a loop over users.
    assert result.users_counted + result.users_left_out == 200_000

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import ndcg_score

from dropdrift.training.matching.config import DEFAULT_KS
from dropdrift.training.matching.metrics import MatchingMetrics, gains, matching_metrics


def brute_force(ranks: list[int], k: int) -> tuple[float, float, float]:
    """Recall, MRR and NDCG from the ranked lists themselves."""
    recall = mrr = ndcg = 0.0
    for rank in ranks:
        relevant = [position == rank for position in range(1, max(rank, k) + 1)][:k]
        recall += sum(relevant)
        mrr += max((1 / n for n, hit in enumerate(relevant, 1) if hit), default=0)
        ndcg += sum(1 / math.log2(n + 1) for n, hit in enumerate(relevant, 1) if hit)
    return recall / len(ranks), mrr / len(ranks), ndcg / len(ranks)


@given(st.lists(st.integers(1, 150), min_size=1, max_size=30))
def test_metrics_are_those_of_the_lists(ranks: list[int]) -> None:
    metrics = matching_metrics(np.array(ranks))
    assert metrics.rows == len(ranks)
    assert metrics.mean_rank == pytest.approx(sum(ranks) / len(ranks))
    assert metrics.reciprocal_rank == pytest.approx(sum(1 / r for r in ranks) / len(ranks))
    for index, k in enumerate(metrics.ks):
        found = (metrics.recall[index], metrics.mrr[index], metrics.ndcg[index])
        assert found == pytest.approx(brute_force(ranks, k))


def test_ndcg_is_that_of_scikit_learn() -> None:
    generator = np.random.default_rng(3)
    scores = generator.normal(size=(40, 25))
    targets = generator.integers(0, 25, 40)
    own = scores[np.arange(40), targets]
    ranks = (scores >= own[:, None]).sum(axis=1)
    relevant = np.eye(25)[targets]
    metrics = matching_metrics(ranks, (1, 3, 10, 25))
    for k, value in zip(metrics.ks, metrics.ndcg, strict=True):
        assert value == pytest.approx(ndcg_score(relevant, scores, k=k))


def test_gains_are_the_metrics_of_each_row() -> None:
    ranks = np.array([1, 2, 3, 11])
    assert gains("recall", 2, ranks).tolist() == [1, 1, 0, 0]
    assert gains("mrr", 3, ranks).tolist() == [1, 1 / 2, 1 / 3, 0]
    assert gains("ndcg", 10, ranks) == pytest.approx([1, 1 / np.log2(3), 1 / 2, 0])


def test_known_values() -> None:
    metrics = matching_metrics(np.array([1, 3, 11]), (2, 10))
    assert metrics.recall == pytest.approx((1 / 3, 2 / 3))
    assert metrics.mrr == pytest.approx((1 / 3, (1 + 1 / 3) / 3))
    assert metrics.ndcg == pytest.approx((1 / 3, 0.5))  # 1 / log2(4) is a half


def test_numbers_go_through_json() -> None:
    metrics = matching_metrics(np.array([1, 7, 30, 2000]))
    numbers = json.loads(json.dumps(metrics.as_numbers()))
    assert numbers["recall@10"] == 0.5
    assert numbers["rows"] == 4
    assert MatchingMetrics.from_numbers(numbers) == metrics
    assert metrics.ks == DEFAULT_KS


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mrr@5": None}, "mrr@5 is None, must be a number"),
        ({"recall@5": True}, "recall@5 is True, must be a number"),
        ({"rows": 0}, "rows is 0.0, must be a positive whole number"),
        ({"mean_rank": "3"}, "mean_rank is '3', must be a number"),
        ({"recall@3": 0.1}, "ks is 1 2 5 10 20 50 100 3, must be positive whole numbers"),
    ],
)
def test_wrong_numbers_are_named(change: dict[str, object], message: str) -> None:
    numbers = matching_metrics(np.array([4])).as_numbers()
    with pytest.raises(ValueError, match=message):
        MatchingMetrics.from_numbers(numbers | change)


def test_a_missing_number_is_named() -> None:
    numbers = matching_metrics(np.array([4])).as_numbers()
    del numbers["ndcg@20"]
    with pytest.raises(ValueError, match="the key ndcg@20 is missing"):
        MatchingMetrics.from_numbers(numbers)


def test_no_rows_are_refused() -> None:
    with pytest.raises(ValueError, match="the test part has no row with a target"):
        matching_metrics(np.array([], np.int64), what="the test part")


@pytest.mark.parametrize("ks", [(), (0, 1), (5, 2), (3, 3)])
def test_wrong_lengths_of_lists_are_refused(ks: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="must be positive whole numbers, ascending"):
        matching_metrics(np.array([1]), ks)

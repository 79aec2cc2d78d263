import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from dropdrift.data.bayes_optimal import BayesOptimalAUC


def best_auc(*batches: np.ndarray) -> float | None:
    best = BayesOptimalAUC()
    for batch in batches:
        best.add(batch)
    return best.auc


@given(st.lists(st.integers(1, 999), min_size=2, max_size=30, unique=True))
def test_pairs_are_counted(thousandths: list[int]) -> None:
    chances = [chance / 1000 for chance in thousandths]
    pairs = [(p, q) for i, p in enumerate(chances) for j, q in enumerate(chances) if i != j]
    right = sum(p * (1 - q) for p, q in pairs if p > q)
    expected = right / sum(p * (1 - q) for p, q in pairs)
    assert best_auc(np.array(chances)) == pytest.approx(expected)


def test_equal_probabilities_count_half() -> None:
    assert best_auc(np.full(5, 0.3)) == pytest.approx(0.5)


def test_it_is_what_drawn_labels_have_in_the_mean() -> None:
    random = np.random.default_rng(0)
    chances = random.beta(1, 4, size=2_000)
    drawn = [roc_auc_score(random.random(2_000) < chances, chances) for _ in range(50)]
    assert best_auc(chances) == pytest.approx(np.mean(drawn), abs=0.006)


def test_batches_change_nothing_and_bins_hardly() -> None:
    chances = np.random.default_rng(1).beta(1, 4, size=20_000)
    assert best_auc(chances) == pytest.approx(best_auc(chances[:7], chances[7:]), abs=1e-12)
    ascending = np.sort(chances)
    below = np.cumsum(1 - ascending) - (1 - ascending)
    pairs = ascending.sum() * (1 - ascending).sum() - np.sum(ascending * (1 - ascending))
    assert best_auc(chances) == pytest.approx(np.sum(ascending * below) / pairs, abs=1e-6)


@pytest.mark.parametrize("chances", [[], [0.4], [1.0, 1.0], [0.0, 0.0, 0.0]])
def test_without_a_pair_there_is_none(chances: list[float]) -> None:
    assert best_auc(np.array(chances)) is None

"""Metrics of retrieval, from the rank of the one item that came next. numpy alone.

Every row has one relevant item, its target, so that Recall@K is also the hit rate HR@K, and the
ideal DCG is 1. With r the target's rank among all items (1: first), means over rows of

    Recall@K = HR@K = [r <= K],  MRR@K = [r <= K] / r,  NDCG@K = [r <= K] / log2(r + 1).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dropdrift.training.matching.config import DEFAULT_KS, check_ks

MEASURES = ("recall", "mrr", "ndcg")

Integers = NDArray[np.integer[Any]]


@dataclass(frozen=True)
class MatchingMetrics:
    """How high targets are ranked on a set of rows.

    Attributes:
        rows: number of rows.
        ks: the lengths K of the lists that are measured, ascending.
        recall: Recall@K, which is HR@K, for each of ``ks``.
        mrr: MRR@K for each of ``ks``.
        ndcg: NDCG@K for each of ``ks``.
        mean_rank: mean of the ranks.
        reciprocal_rank: mean of 1 / rank, MRR without a cut.
    """

    rows: int
    ks: tuple[int, ...]
    recall: tuple[float, ...]
    mrr: tuple[float, ...]
    ndcg: tuple[float, ...]
    mean_rank: float
    reciprocal_rank: float

    def as_numbers(self) -> dict[str, float]:
        """Every number by name, as in ``recall@10``: what logs and result files hold."""
        numbers: dict[str, float] = {"rows": self.rows}
        for measure in MEASURES:
            values = getattr(self, measure)
            numbers |= {f"{measure}@{k}": v for k, v in zip(self.ks, values, strict=True)}
        return numbers | {"mean_rank": self.mean_rank, "reciprocal_rank": self.reciprocal_rank}

    @staticmethod
    def from_numbers(numbers: Mapping[str, Any]) -> MatchingMetrics:
        """The inverse of :meth:`as_numbers`; ValueError naming what is missing or no number."""
        ks = tuple(int(key[7:]) for key in numbers if re.fullmatch(r"recall@[1-9]\d*", key))
        check_ks(ks)
        by_measure = {
            measure: tuple(_number(numbers, f"{measure}@{k}") for k in ks) for measure in MEASURES
        }
        rows = _number(numbers, "rows")
        if rows != int(rows) or rows < 1:
            raise ValueError(f"rows is {rows}, must be a positive whole number")
        return MatchingMetrics(
            rows=int(rows),
            ks=ks,
            mean_rank=_number(numbers, "mean_rank"),
            reciprocal_rank=_number(numbers, "reciprocal_rank"),
            **by_measure,
        )


def matching_metrics(
    ranks: Integers, ks: Sequence[int] = DEFAULT_KS, what: str = "evaluation"
) -> MatchingMetrics:
    """All metrics.

    Args:
        ranks: of each row's target, 1 being the best, [R].
        ks: lengths of the lists, ascending.
        what: names the rows in the message, such as ``"the test part"``.

    Raises:
        ValueError: there are no rows, or ``ks`` is wrong.
    """
    check_ks(ks)
    if not len(ranks):
        raise ValueError(f"{what} has no row with a target: there is nothing to measure")
    assert int(ranks.min()) >= 1, "ranks begin with 1"
    by_measure = {
        measure: tuple(float(gains(measure, k, ranks).mean()) for k in ks) for measure in MEASURES
    }
    exact = ranks.astype(np.float64)
    return MatchingMetrics(
        rows=len(ranks),
        ks=tuple(ks),
        mean_rank=float(exact.mean()),
        reciprocal_rank=float((1 / exact).mean()),
        **by_measure,
    )


def gains(measure: str, k: int, ranks: Integers) -> NDArray[np.float64]:
    """What each row adds to the mean that a metric is, float64 [R].

    Args:
        measure: ``recall``, ``mrr`` or ``ndcg``.
        k: length of the list.
        ranks: of each row's target, 1 being the best, [R].
    """
    assert measure in MEASURES
    exact = ranks.astype(np.float64)
    by_rank = {"mrr": 1 / exact, "ndcg": 1 / np.log2(exact + 1)}.get(measure, np.ones_like(exact))
    return by_rank * (ranks <= k)


def _number(numbers: Mapping[str, Any], key: str) -> float:
    if key not in numbers:
        raise ValueError(f"the key {key} is missing")
    value = numbers[key]
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise ValueError(f"{key} is {value!r}, must be a number")
    return float(value)

"""What an experiment reads of matching models: metrics by name, and the ranks of each row."""

from __future__ import annotations

import json
import re
from pathlib import Path
from statistics import fmean

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from dropdrift.data.parquet_file import reading_parquet
from dropdrift.training.experiments.plan import Plan
from dropdrift.training.experiments.summary import UserValues
from dropdrift.training.matching.metrics import gains
from dropdrift.training.matching.result import MatchingResult, Variant, ranks_path

_METRIC = re.compile(r"(?:(included|excluded)/)?(recall|hr|mrr|ndcg)@([1-9]\d*)")
_SHOWN = {"recall": "Recall", "hr": "HR", "mrr": "MRR", "ndcg": "NDCG"}


class MatchingMeasures:
    """The metrics that a plan names.

    Args:
        plan: names them.

    Raises:
        ValueError: a metric is unknown.
    """

    def __init__(self, plan: Plan) -> None:
        self._metrics = plan.metrics
        self._parsed = [_parse(metric, plan.seen) for metric in plan.metrics]
        for row, numbers in plan.published.items():
            for metric in numbers:
                if metric not in plan.metrics:
                    raise ValueError(
                        f"published: {row}: {metric} is not among the metrics, "
                        f"{', '.join(plan.metrics)}"
                    )
        self.titles = {
            metric: _title(parsed, plan.seen)
            for metric, parsed in zip(plan.metrics, self._parsed, strict=True)
        }

    @property
    def list_lengths(self) -> tuple[int, ...]:
        """The K that an evaluation must measure, ascending."""
        return tuple(sorted({k for _, _, k in self._parsed}))

    def numbers(self, path: Path) -> dict[float, dict[str, float]]:
        """The metrics by name from a result file, for each weight of the transition counts.

        Means over the seeds of the model's noise. The first weight is that of the row itself.

        Raises:
            ValueError: the file is damaged or lacks a metric.
        """
        variants = MatchingResult.load(path).variants
        found: dict[float, dict[str, float]] = {}
        for weight in dict.fromkeys(variant.transition_weight for variant in variants):
            parts = [v for v in variants if v.transition_weight == weight]
            found[weight] = {
                metric: fmean(_number(part, parsed, path) for part in parts)
                for metric, parsed in zip(self._metrics, self._parsed, strict=True)
            }
        return found

    def users(self, path: Path) -> dict[float, UserValues]:
        """The metrics of each row, for each weight, from the ranks beside a result file."""
        path = ranks_path(path)
        if not path.is_file():
            return {}
        with reading_parquet(path):
            table = pq.read_table(path)
        weights = table["transition_weight"].to_numpy()
        columns = {"included": "rank_all", "excluded": "rank_unseen"}
        ranks = {seen: table[column].to_numpy() for seen, column in columns.items()}
        values = [gains(_field(measure), k, ranks[seen]) for seen, measure, k in self._parsed]
        stacked = np.stack(values, axis=1)
        pairs = zip(table["user"].to_pylist(), table["item"].to_pylist(), strict=True)
        users = np.array([f"{user}\t{item}" for user, item in pairs])
        return {
            float(weight): _mean_by_user(users[chosen], stacked[chosen])
            for weight in np.unique(weights)
            for chosen in [weights == weight]
        }


def metric_title(metric: str) -> str:
    """``Recall@20`` of ``recall@20``."""
    measure, _, k = metric.partition("@")
    return f"{_SHOWN[measure]}@{k}"


def validation_curve(log: Path, chosen_by: str) -> tuple[tuple[int, float], ...]:
    """Step and value of the metric that chose the checkpoint, from a run's log."""
    if not log.is_file():
        return ()
    entries = map(json.loads, log.read_text(encoding="utf-8").splitlines())
    return tuple(
        (int(entry["step"]), float(entry[chosen_by]))
        for entry in entries
        if entry["kind"] == "validation" and chosen_by in entry
    )


def _mean_by_user(users: NDArray[np.str_], values: NDArray[np.float64]) -> UserValues:
    """One row for each user, sorted: means over the seeds of the noise."""
    names, codes = np.unique(users, return_inverse=True)
    sums = np.zeros((len(names), values.shape[1]))
    np.add.at(sums, codes, values)
    return UserValues(names, sums / np.bincount(codes)[:, None])


def _number(variant: Variant, parsed: tuple[str, str, int], path: Path) -> float:
    seen, measure, k = parsed
    metrics = variant.among_all if seen == "included" else variant.among_unseen
    if k not in metrics.ks:
        raise ValueError(f"{path} has no {measure}@{k}, as it was measured with other ks")
    values: tuple[float, ...] = getattr(metrics, _field(measure))
    return values[metrics.ks.index(k)]


def _field(measure: str) -> str:
    """What ``MatchingMetrics`` calls it: with one target a row, HR is recall."""
    return "recall" if measure == "hr" else measure


def _parse(metric: str, seen: str) -> tuple[str, str, int]:
    """Whether seen items are ranked, the measure and K."""
    found = _METRIC.fullmatch(metric)
    if not found:
        raise ValueError(
            f"metrics names {metric!r}: name recall@K, hr@K, mrr@K or ndcg@K, with included/ or "
            "excluded/ in front where it is not as seen says"
        )
    return found[1] or seen, found[2], int(found[3])


def _title(parsed: tuple[str, str, int], usual: str) -> str:
    seen, measure, k = parsed
    return f"{_SHOWN[measure]}@{k}" + (f", seen {seen}" if seen != usual else "")

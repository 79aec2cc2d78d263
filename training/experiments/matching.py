"""What an experiment reads of matching models: metrics by name, and the ranks of each row."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from dropdrift.data.parquet_file import reading_parquet
from dropdrift.training.experiments.plan import Plan
from dropdrift.training.experiments.summary import UserValues
from dropdrift.training.provenance import read_json

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

    def numbers(self, path: Path) -> dict[str, float]:
        """The metrics by name from a result file; ValueError where it lacks one."""
        raw = read_json(path)
        found = {}
        for metric, (seen, measure, k) in zip(self._metrics, self._parsed, strict=True):
            name = f"{'recall' if measure == 'hr' else measure}@{k}"
            try:
                found[metric] = float(raw["metrics"][seen][name])
            except (KeyError, TypeError, ValueError) as error:
                raise ValueError(f"{path} has no {name}, seen items {seen}") from error
        return found

    def users(self, path: Path) -> UserValues | None:
        """The metrics of each row from a file of ranks; None where there is none."""
        if not path.is_file():
            return None
        with reading_parquet(path):
            table = pq.read_table(path)
        pairs = zip(table["user"].to_pylist(), table["target"].to_pylist(), strict=True)
        users = np.array([f"{user}\t{target}" for user, target in pairs])
        ranks = {
            "included": table["rank"].to_numpy(),
            "excluded": table["rank_unseen"].to_numpy(),
        }
        columns = [gains(measure, k, ranks[seen]) for seen, measure, k in self._parsed]
        return UserValues(users, np.stack(columns, axis=1))


def gains(measure: str, k: int, ranks: NDArray[np.int64]) -> NDArray[np.float64]:
    """What each row adds to the mean that a metric is, [R]: see ``training.matching.metrics``."""
    exact = ranks.astype(np.float64)
    gain = {"mrr": 1 / exact, "ndcg": 1 / np.log2(exact + 1)}.get(measure, np.ones_like(exact))
    return gain * (ranks <= k)


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

"""What an experiment reads of matching models: metrics by name, and the ranks of each row."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray

from dropdrift.data.interactions.protocol_statistics import protocol_statistics
from dropdrift.data.interactions.sequences import Sequences
from dropdrift.data.json_file import read_json
from dropdrift.data.parquet_file import reading_parquet
from dropdrift.data.preparing.statistics import STATISTICS_FILE
from dropdrift.data.schema import Schema
from dropdrift.training.config import TrainConfig
from dropdrift.training.experiments.measures import Measured, UserValues, check_published
from dropdrift.training.experiments.plan import Plan
from dropdrift.training.matching.config import DEFAULT_KS
from dropdrift.training.matching.metrics import gains
from dropdrift.training.matching.result import MatchingResult, Variant, ranks_path

_METRIC = re.compile(r"(?:(included|excluded)/)?(recall|hr|mrr|ndcg)@([1-9]\d*)")
_SHOWN = {"recall": "Recall", "hr": "HR", "mrr": "MRR", "ndcg": "NDCG"}


class MatchingMeasures:
    """See :class:`~dropdrift.training.experiments.measures.Measures`.

    Args:
        plan: names the metrics: ``recall@20``, ``included/mrr@20``.

    Raises:
        ValueError: a metric is unknown.
    """

    relative: tuple[str, ...] = ()

    def __init__(self, plan: Plan) -> None:
        self._metrics = plan.metrics
        self._parsed = [_parse(metric, plan.seen) for metric in plan.metrics]
        check_published(plan.published, plan.metrics)
        self.titles: Mapping[str, str] = {
            metric: _title(parsed, plan.seen)
            for metric, parsed in zip(plan.metrics, self._parsed, strict=True)
        }
        self.note = f"Items that a user has already had are {plan.seen}."

    def evaluation_options(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Lists as long as the metrics need, besides those ``given``."""
        lengths = {k for _, _, k in self._parsed}
        return {"ks": tuple(sorted({*given.get("ks", DEFAULT_KS), *lengths}))}

    def check(self, config: TrainConfig, base: TrainConfig, schema: Schema) -> None:
        """Any interactions will do."""

    def measured(self, result_file: Path, last: Mapping[str, float]) -> dict[str, Measured]:
        """One entry for each weight of the transition counts."""
        del last
        numbers, users = self.numbers(result_file), self.users(result_file)
        first, *others = numbers
        found = {"": Measured(numbers[first], users.get(first))}
        for weight in others:
            found[f" + {weight:g} transitions"] = Measured(numbers[weight], users.get(weight))
        return found

    def curve_title(self, chosen_by: str) -> str:
        """``Recall@20`` of ``recall@20``."""
        measure, _, k = chosen_by.partition("@")
        return f"{_SHOWN[measure]}@{k}"

    def data_facts(self, config: TrainConfig, schema: Schema) -> dict[str, Any]:
        """Counts of the data, and of what the protocol makes of it."""
        data, sequence = config.data.path, config.data.sequence
        facts: dict[str, Any] = {}
        path = data / STATISTICS_FILE
        if path.is_file():
            counts = read_json(path)
            for key in ("users", "items", "interactions"):
                if isinstance(counts, dict) and isinstance(counts.get(key), int):
                    facts[key.capitalize()] = counts[key]
        sequences = Sequences.load(data, schema, sequence.order, sequence.min_interactions)
        counted = protocol_statistics(sequences, sequence, config.loop.seed)
        for key, number in dataclasses.asdict(counted).items():
            facts[f"{key.capitalize()} in the protocol"] = number
        return facts

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


def _mean_by_user(users: NDArray[np.str_], values: NDArray[np.float64]) -> UserValues:
    """One row for each user, sorted: means over the seeds of the noise."""
    names, codes = np.unique(users, return_inverse=True)
    sums = np.zeros((len(names), values.shape[1]))
    np.add.at(sums, codes, values)
    return UserValues(names, sums / np.bincount(codes)[:, None], np.ones_like(sums))


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

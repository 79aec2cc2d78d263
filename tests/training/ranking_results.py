"""Evaluation results of ranking models, made up from rows whose labels are known."""

from __future__ import annotations

from typing import Any

import numpy as np

from dropdrift.training.metrics import RankingMetrics, calibration_table, ranking_metrics
from dropdrift.training.provenance import provenance
from dropdrift.training.result import EvaluationResult, RobustnessPoint, TaskResult

ROWS = 400


def task(seed: int, skill: float, users: bool = True) -> TaskResult:
    """Rows whose labels follow the logits the more, the fewer fields are dropped."""
    labels = np.random.default_rng(0).integers(0, 2, ROWS).astype(float)
    noise = np.random.default_rng(seed).normal(size=ROWS)
    codes = np.arange(ROWS) % 40 if users else None

    def logits(left: float) -> Any:
        return skill * left * (labels - 0.5) + noise

    def metrics(left: float) -> RankingMetrics:
        return ranking_metrics(logits(left), labels, codes)

    return TaskResult(
        metrics(1.0),
        calibration_table(logits(1.0), labels, buckets=5),
        (
            RobustnessPoint("identifiers", "identifiers", metrics(0.4)),
            RobustnessPoint("group", "item", metrics(0.3)),
            RobustnessPoint("group", "user", metrics(0.5)),
            RobustnessPoint("share", 0.9, metrics(0.1)),
            RobustnessPoint("share", 0.3, metrics(0.7)),
        ),
    )


def result(
    name: str = "DCN-V2", seed: int = 1, skill: float = 1.0, **kwargs: Any
) -> EvaluationResult:
    return EvaluationResult(
        name=name,
        part="test",
        tasks={"is_click": task(seed, skill, **kwargs)},
        missing_rate={"age": 0.25, "tab": 0.0},
        provenance=provenance({}, seed),
    )

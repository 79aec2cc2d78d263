"""What an experiment reads of ranking models."""

from __future__ import annotations

from pathlib import Path

import pytest

from dropdrift.data.schema import Schema
from dropdrift.models.config import ModelConfig
from dropdrift.training.config import TrainConfig
from dropdrift.training.experiments.plan import Plan, Variant
from dropdrift.training.experiments.ranking import RankingMeasures


def plan_of(*metrics: str) -> Plan:
    return Plan("Title", "dcnv2", "base", metrics, {"base": Variant()})


def test_titles() -> None:
    titles = {
        "auc": "AUC",
        "uauc@50%": "UAUC, 50% dropped",
        "auc@user": "AUC, no user fields",
        "like/log_loss@identifiers": "like: Log loss, no identifiers",
    }
    assert RankingMeasures(plan_of(*titles)).titles == titles


def test_what_is_compared_is_of_one_label(prepared_folder: Path) -> None:
    schema = Schema.load(prepared_folder)
    usual, same, other = (
        TrainConfig(model=ModelConfig(tasks=tasks))
        for tasks in ((), schema.labels, schema.labels[1:])
    )
    measures = RankingMeasures(plan_of("auc"))
    measures.check(same, usual, schema)
    measures.check(usual, same, schema)
    with pytest.raises(ValueError, match=r"first label .* is 'like' and the base's is 'click'"):
        measures.check(other, usual, schema)

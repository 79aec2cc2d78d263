"""What an experiment reads of ranking models."""

from __future__ import annotations

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

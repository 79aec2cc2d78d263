"""``dropdrift plan show``: the plan of a model on a cluster."""

from __future__ import annotations

from dropdrift.launchers.plan.target import read_target
from dropdrift.training.plans.config import ShowConfig


def run(arguments: list[str]) -> int:
    """Plan, and show the plan."""
    target = read_target(
        ShowConfig,
        arguments,
        prog="dropdrift plan show",
        description="Plan a model for a cluster and show the plan.",
    )
    from dropdrift.sharding.planning import make_plan
    from dropdrift.sharding.summary import summarise

    summary = summarise(make_plan(target.request()))
    print(summary)
    return 0

"""Where a run's tables go: planned anew, or by a saved plan, on the first rank for all ranks."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torchrec.distributed.types import ShardingPlan

from dropdrift.data.schema import Schema
from dropdrift.sharding.cluster import Cluster, hardware_of, make_cluster
from dropdrift.sharding.planning import NoPlanError, PlanRequest, make_plan
from dropdrift.sharding.saved.context import context_of, differences
from dropdrift.sharding.saved.document import document, read_plan
from dropdrift.sharding.saved.placement import to_sharding_plan
from dropdrift.sharding.wording import NAMED
from dropdrift.training.config import RecipeConfig
from dropdrift.training.distributed import Ranks, on_first_rank
from dropdrift.training.plans.request import plan_request
from dropdrift.training.provenance import provenance


@dataclass(frozen=True)
class Placement:
    """Where a run's tables go.

    Attributes:
        plan: as TorchRec's sharding takes it.
        document: the same with what it is for and comes to, as every checkpoint carries it.
    """

    plan: ShardingPlan
    document: dict[str, Any]


def place_tables(
    schema: Schema,
    config: RecipeConfig,
    ranks: Ranks,
    lookup_rows: int = 0,
    saved: Path | None = None,
) -> Placement:
    """The plan of a run, the same on all ranks; every rank must call.

    Args:
        schema: fields and tables.
        config: the run's options.
        ranks: this process among all.
        lookup_rows: rows of one lookup on a rank; 0: a rank's share of the batch.
        saved: a plan to use instead of planning anew.

    Raises:
        ValueError: the options contradict each other, no plan fits, or the saved plan is damaged or
            was made for something else.
    """

    def place() -> Placement:
        """On the first rank."""
        request = plan_request(schema, config, cluster_of(config, ranks), lookup_rows)
        return _planned(request, config) if saved is None else _read(saved, request)

    return on_first_rank(place)


def cluster_of(config: RecipeConfig, ranks: Ranks) -> Cluster:
    """The machines that the run is on.

    Raises:
        ValueError: the hardware that the options name is unknown, or not what the run is on, or the
            machines do not have as many ranks each.
    """
    hardware = hardware_of(config.sharding, ranks.device)
    return make_cluster(config.sharding, hardware, ranks.nodes, ranks.ranks_per_node)


def _planned(request: PlanRequest, config: RecipeConfig) -> Placement:
    try:
        planned = make_plan(request)
    except NoPlanError as error:
        # Without the request, which other ranks cannot be sent.
        raise ValueError(f"{error}; 'dropdrift plan show' says more") from None
    return Placement(planned.plan, document(planned, provenance(config, config.loop.seed)))


def _read(path: Path, request: PlanRequest) -> Placement:
    plan = read_plan(path)
    found = differences(plan.context, context_of(request))
    if found:
        named = "; ".join(found[:NAMED])
        more = len(found) - NAMED
        raise ValueError(
            f"plan {path} was made for something else: {named}"
            f"{f'; and {more} more differences' if more > 0 else ''}: make one for this run with "
            "'dropdrift plan save'"
        )
    return Placement(to_sharding_plan(plan.placement, plan.context), plan.document())

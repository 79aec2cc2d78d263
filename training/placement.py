"""Where a run's tables go: planned anew on the first rank, for all ranks."""

from __future__ import annotations

from torchrec.distributed.types import ShardingPlan

from dropdrift.data.schema import Schema
from dropdrift.sharding.cluster import Cluster, hardware_of, make_cluster
from dropdrift.sharding.planning import NoPlanError, make_plan
from dropdrift.training.config import RecipeConfig
from dropdrift.training.distributed import Ranks, on_first_rank
from dropdrift.training.plans.request import plan_request


def place_tables(
    schema: Schema, config: RecipeConfig, ranks: Ranks, lookup_rows: int = 0
) -> ShardingPlan:
    """The plan of a run, the same on all ranks; every rank must call.

    Args:
        schema: fields and tables.
        config: the run's options.
        ranks: this process among all.
        lookup_rows: rows of one lookup on a rank; 0: a rank's share of the batch.

    Raises:
        ValueError: the options contradict each other, or no plan fits.
    """
    return on_first_rank(lambda: _plan(schema, config, cluster_of(config, ranks), lookup_rows))


def cluster_of(config: RecipeConfig, ranks: Ranks) -> Cluster:
    """The machines that the run is on.

    Raises:
        ValueError: the hardware that the options name is unknown, or not what the run is on.
    """
    hardware = hardware_of(config.sharding, ranks.device)
    nodes = -(-ranks.world_size // ranks.ranks_per_node)
    return make_cluster(config.sharding, hardware, nodes, ranks.ranks_per_node)


def _plan(schema: Schema, config: RecipeConfig, cluster: Cluster, lookup_rows: int) -> ShardingPlan:
    try:
        return make_plan(plan_request(schema, config, cluster, lookup_rows)).plan
    except NoPlanError as error:
        # Without the request, which other ranks cannot be sent.
        raise ValueError(f"{error}; 'dropdrift plan show' says more") from None

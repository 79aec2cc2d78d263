"""Where each table goes: TorchRec's planner under this project's rules."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import nn
from torchrec.distributed.embeddingbag import EmbeddingBagCollectionSharder
from torchrec.distributed.planner import EmbeddingShardingPlanner, Topology
from torchrec.distributed.planner.types import ParameterConstraints, PlannerError
from torchrec.distributed.types import ModuleSharder, ShardingPlan

from dropdrift.data.schema import Schema
from dropdrift.sharding.config import ShardingConfig

GIB = 1 << 30


def sharders() -> list[ModuleSharder[nn.Module]]:
    """The sharders of every module that this project shards."""
    return [EmbeddingBagCollectionSharder()]


def plan_tables(
    model: nn.Module,
    schema: Schema,
    config: ShardingConfig,
    *,
    device: torch.device,
    rows_per_rank: int,
    ranks_per_node: int,
    replicate: bool = False,
) -> ShardingPlan:
    """Plan on rank 0 and give the plan to all ranks of the default process group.

    Args:
        model: a model with unsharded embedding collections.
        schema: the tables' fields, whose measured pooling factors the estimates use.
        config: what the planner may do.
        device: the type of device that the tables live on.
        rows_per_rank: rows of a batch on one rank.
        ranks_per_node: ranks that share a machine.
        replicate: give every rank a copy of every table, whatever ``config.types`` says. Such
            tables are trained after the backward, not by an optimizer inside it.

    Raises:
        ValueError: no allowed sharding type exists on the device, or no plan fits the memory.
    """
    types = ["data_parallel"] if replicate else _types_on_device(config, device)
    constraints = {
        table.name: ParameterConstraints(
            sharding_types=types,
            pooling_factors=[
                max(f.pooling_factor, 1e-3) for f in schema.fields if f.table == table.name
            ],
        )
        for table in schema.tables
    }
    topology = Topology(
        world_size=dist.get_world_size(),
        local_world_size=ranks_per_node,
        compute_device=device.type,
        hbm_cap=int(config.hbm_gb * GIB),
        ddr_cap=int(config.host_memory_gb * GIB),
    )
    planner = EmbeddingShardingPlanner(
        topology=topology, batch_size=rows_per_rank, constraints=constraints
    )
    group = dist.GroupMember.WORLD
    assert group is not None
    try:
        return planner.collective_plan(model, sharders(), group)
    except PlannerError as error:
        reason = str(error).strip().splitlines()[0]
        raise ValueError(
            f"no sharding plan fits sharding.hbm_gb {config.hbm_gb:g} and sharding.host_memory_gb "
            f"{config.host_memory_gb:g} on {dist.get_world_size()} ranks: {reason}"
        ) from error


def _types_on_device(config: ShardingConfig, device: torch.device) -> list[str]:
    offered = sharders()[0].sharding_types(device.type)
    types: list[str] = [kind for kind in config.types if kind in offered]
    if not types:
        raise ValueError(
            f"sharding.types {', '.join(config.types)}: none exists on {device.type}, "
            f"which offers {', '.join(offered)}"
        )
    return types

"""What TorchRec's planner is told of each table: allowed types and kernels, pooling factors."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase

import torch
from torchrec.distributed.embeddingbag import EmbeddingBagCollectionSharder
from torchrec.distributed.fbgemm_qcomm_codec import QCommsConfig, get_qcomm_codecs
from torchrec.distributed.planner.types import ParameterConstraints
from torchrec.distributed.types import CommOp, ModuleSharder
from torchrec.modules.embedding_configs import DataType

from dropdrift.data.schema import Schema, Table
from dropdrift.sharding.cluster import Cluster
from dropdrift.sharding.collection import CollectionSharder
from dropdrift.sharding.config import ShardingConfig

# The planner divides by it: a field that no training row has still counts a little.
LEAST_POOLING_FACTOR = 1e-3
# What a lookup gives, whatever the table is stored in; TorchRec would estimate it as the table.
LOOKED_UP = DataType.FP32


def sharders() -> list[ModuleSharder[torch.nn.Module]]:
    """The sharders of every module that this project shards."""
    return [CollectionSharder()]


def planning_sharders() -> list[ModuleSharder[torch.nn.Module]]:
    """The same for the planner, told that ranks exchange fp32, whatever tables are stored in."""
    exchanges = (CommOp.POOLED_EMBEDDINGS_ALL_TO_ALL, CommOp.POOLED_EMBEDDINGS_REDUCE_SCATTER)
    registry = {exchange.name: get_qcomm_codecs(QCommsConfig()) for exchange in exchanges}
    return [CollectionSharder(qcomm_codecs_registry=registry)]


def table_constraints(
    schema: Schema, config: ShardingConfig, cluster: Cluster, *, replicate: bool
) -> dict[str, ParameterConstraints]:
    """Constraints of every table, by its name.

    Args:
        schema: fields and tables; its pooling factors are measured on the training part.
        config: what the planner may do.
        cluster: where the tables live.
        replicate: every rank has a copy of every table, whatever ``config`` says.

    Raises:
        ValueError: a table is allowed nothing that the cluster offers, or a rule matches no table.
    """
    for rule in config.rules:
        if not any(fnmatchcase(table.name, rule.pattern) for table in schema.tables):
            raise ValueError(
                f"sharding.tables has a rule for {rule.pattern!r}, which matches no table"
            )
    return {
        table.name: ParameterConstraints(
            sharding_types=types,
            compute_kernels=kernels,
            pooling_factors=[
                max(f.pooling_factor, LEAST_POOLING_FACTOR)
                for f in schema.fields
                if f.table == table.name
            ],
            output_dtype=None if replicate else LOOKED_UP,
        )
        for table in schema.tables
        for types, kernels in [_allowed(table, config, cluster, replicate)]
    }


def offered(device: str) -> Mapping[str, tuple[str, ...]]:
    """Compute kernels by sharding type that TorchRec offers on a type of device."""
    return _kernels(EmbeddingBagCollectionSharder(), device)


def shardable(device: str) -> Mapping[str, tuple[str, ...]]:
    """The same with what this project adds: on a CPU, tables cut by rows."""
    return _kernels(CollectionSharder(), device)


def usable_types(wanted: Iterable[str], rows: int, cluster: Cluster) -> list[str]:
    """What the planner may choose from of the sharding types that a table is allowed.

    Those that TorchRec does not offer on the device are used where no other is allowed: its
    estimates are not made for them. On a CPU they must leave no rank without rows, as FBGEMM's
    backward then reads beyond its buffers.

    Args:
        wanted: sharding types.
        rows: of the table.
        cluster: where.
    """
    kinds = tuple(wanted)
    there = offered(cluster.device)
    return [kind for kind in kinds if kind in there] or [
        kind for kind in kinds if _least_rows(kind, rows, cluster) > 0
    ]


def _least_rows(kind: str, rows: int, cluster: Cluster) -> int:
    """Of the last part of a table that is cut by rows."""
    parts = cluster.world_size if kind == "row_wise" else cluster.ranks_per_node
    return rows - math.ceil(rows / parts) * (parts - 1)


def _kernels(sharder: EmbeddingBagCollectionSharder, device: str) -> Mapping[str, tuple[str, ...]]:
    return {
        kind: tuple(sharder.compute_kernels(kind, device))
        for kind in sharder.sharding_types(device)
    }


def _allowed(
    table: Table, config: ShardingConfig, cluster: Cluster, replicate: bool
) -> tuple[list[str], list[str]]:
    if replicate:
        return ["data_parallel"], ["dense"]
    device = cluster.device
    there = shardable(device)
    wanted_types, wanted_kernels = config.allowed(table.name)
    types = usable_types(wanted_types, table.rows, cluster)
    if not types:
        raise ValueError(
            f"table {table.name!r} may be {', '.join(wanted_types)} (sharding.types, "
            f"sharding.tables): its {table.rows:,} rows leave one of {cluster.world_size} ranks "
            f"without any, which a {device} does not bear: allow it table_wise with "
            f"--sharding.tables '{table.name}=table_wise'"
        )
    kernels = [kernel for kernel in wanted_kernels if any(kernel in there[kind] for kind in types)]
    if not kernels:
        raise ValueError(
            f"table {table.name!r} may use {', '.join(wanted_kernels)} (sharding.kernels, "
            f"sharding.tables): none exists on {device}"
        )
    return types, kernels

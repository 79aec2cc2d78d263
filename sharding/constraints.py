"""What TorchRec's planner is told of each table: allowed types and kernels, pooling factors."""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase

import torch
from torchrec.distributed.embeddingbag import EmbeddingBagCollectionSharder
from torchrec.distributed.fbgemm_qcomm_codec import QCommsConfig, get_qcomm_codecs
from torchrec.distributed.planner.types import ParameterConstraints
from torchrec.distributed.types import CommOp, ModuleSharder
from torchrec.modules.embedding_configs import DataType

from dropdrift.data.schema import Schema
from dropdrift.sharding.config import SHARDING_TYPES, ShardingConfig

# The planner divides by it: a field that no training row has still counts a little.
LEAST_POOLING_FACTOR = 1e-3
# What a lookup gives, whatever the table is stored in; TorchRec would estimate it as the table.
LOOKED_UP = DataType.FP32


def sharders() -> list[ModuleSharder[torch.nn.Module]]:
    """The sharders of every module that this project shards."""
    return [EmbeddingBagCollectionSharder()]


def planning_sharders() -> list[ModuleSharder[torch.nn.Module]]:
    """The same for the planner, told that ranks exchange fp32, whatever tables are stored in."""
    exchanges = (CommOp.POOLED_EMBEDDINGS_ALL_TO_ALL, CommOp.POOLED_EMBEDDINGS_REDUCE_SCATTER)
    registry = {exchange.name: get_qcomm_codecs(QCommsConfig()) for exchange in exchanges}
    return [EmbeddingBagCollectionSharder(qcomm_codecs_registry=registry)]


def table_constraints(
    schema: Schema, config: ShardingConfig, device: str, *, replicate: bool
) -> dict[str, ParameterConstraints]:
    """Constraints of every table, by its name.

    Args:
        schema: fields and tables; its pooling factors are measured on the training part.
        config: what the planner may do.
        device: type of the device that the tables live on, ``cpu`` or ``cuda``.
        replicate: every rank has a copy of every table, whatever ``config`` says.

    Raises:
        ValueError: a table is allowed nothing that the device offers, or a rule matches no table.
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
        for types, kernels in [_allowed(table.name, config, device, replicate)]
    }


def offered(device: str) -> Mapping[str, tuple[str, ...]]:
    """Compute kernels by sharding type that TorchRec offers on a type of device."""
    sharder = sharders()[0]
    return {
        kind: tuple(sharder.compute_kernels(kind, device))
        for kind in sharder.sharding_types(device)
    }


def _allowed(
    table: str, config: ShardingConfig, device: str, replicate: bool
) -> tuple[list[str], list[str]]:
    if replicate:
        return ["data_parallel"], ["dense"]
    there = offered(device)
    wanted_types, wanted_kernels = config.allowed(table)
    types = [kind for kind in wanted_types if kind in there]
    if not types:
        raise ValueError(
            f"table {table!r} may be {', '.join(wanted_types)} (sharding.types, sharding.tables): "
            f"none exists on {device}, which offers "
            f"{', '.join(kind for kind in there if kind in SHARDING_TYPES)}"
        )
    kernels = [kernel for kernel in wanted_kernels if any(kernel in there[kind] for kind in types)]
    if not kernels:
        raise ValueError(
            f"table {table!r} may use {', '.join(wanted_kernels)} (sharding.kernels, "
            f"sharding.tables): none exists on {device}"
        )
    return types, kernels

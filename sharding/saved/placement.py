"""Where a saved plan puts each table, checked, and as TorchRec's sharding takes it.

The placement of a saved plan may be edited. TorchRec does not check what it is given: a row-wise
table whose blocks are of other sizes than it reckons with would be looked up wrongly in silence.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.distributed._shard.metadata import ShardMetadata
from torch.distributed._shard.sharding_spec.api import EnumerableShardingSpec
from torchrec.distributed.planner.utils import placement as placed_on
from torchrec.distributed.sharding_plan import calculate_shard_sizes_and_offsets
from torchrec.distributed.types import (
    EmbeddingModuleShardingPlan,
    ParameterSharding,
    ShardingPlan,
)

from dropdrift.sharding.config import COMPUTE_KERNELS, CUT_BY_COLUMNS, SHARDING_TYPES
from dropdrift.sharding.constraints import LOOKED_UP, shardable
from dropdrift.sharding.saved.context import Context, PlannedCluster, PlannedTable

REPLICATED = "data_parallel"


@dataclass(frozen=True)
class PlacedShard:
    """``rows`` x ``columns`` numbers of a table, the first at (``row``, ``column``), on a rank."""

    rank: int
    row: int
    rows: int
    column: int
    columns: int


@dataclass(frozen=True)
class PlacedTable:
    """How a table is cut, looked up, and where its shards are; a replicated one is everywhere."""

    table: str
    sharding_type: str
    kernel: str
    shards: tuple[PlacedShard, ...]

    @property
    def ranks(self) -> tuple[int, ...]:
        """Where it is, ascending."""
        return tuple(sorted({shard.rank for shard in self.shards}))


def check_placement(placement: Sequence[PlacedTable], context: Context) -> None:
    """Refuse what TorchRec could not shard by, or would shard by wrongly.

    Raises:
        ValueError: a table is missing, unknown or there twice, or is not cut, looked up or spread
            as its sharding type has it on these ranks; the line names the table.
    """
    tables = {table.name: table for table in context.tables}
    for placed in placement:
        if placed.table not in tables:
            raise ValueError(f"table {placed.table!r} is placed twice, or is none of the model")
        try:
            _check_table(placed, tables.pop(placed.table), context)
        except ValueError as error:
            raise ValueError(f"table {placed.table!r} {error}") from error
    if tables:
        raise ValueError(f"table {next(iter(tables))!r} is not placed")


def to_sharding_plan(placement: Sequence[PlacedTable], context: Context) -> ShardingPlan:
    """A checked placement as TorchRec's sharding takes it."""
    modules = {table.name: table.module for table in context.tables}
    plan: dict[str, EmbeddingModuleShardingPlan] = {}
    for placed in placement:
        module = plan.setdefault(modules[placed.table], EmbeddingModuleShardingPlan())
        replicated = placed.sharding_type == REPLICATED
        module[placed.table] = ParameterSharding(
            sharding_type=placed.sharding_type,
            compute_kernel=placed.kernel,
            ranks=[shard.rank for shard in placed.shards],
            sharding_spec=None
            if replicated
            else EnumerableShardingSpec([_metadata(s, context.cluster) for s in placed.shards]),
            output_dtype=None if replicated else LOOKED_UP,
        )
    return ShardingPlan(dict(plan))


def _metadata(shard: PlacedShard, cluster: PlannedCluster) -> ShardMetadata:
    return ShardMetadata(
        shard_offsets=[shard.row, shard.column],
        shard_sizes=[shard.rows, shard.columns],
        placement=placed_on(cluster.device, shard.rank, cluster.ranks_per_node),
    )


def _check_table(placed: PlacedTable, table: PlannedTable, context: Context) -> None:
    there = shardable(context.cluster.device)
    allowed = [kind for kind in _trained_by(context.optimizer) if kind in there]
    if placed.sharding_type not in allowed:
        raise ValueError(
            f"is {placed.sharding_type}: with {context.optimizer} on {context.cluster.device} it "
            f"may be {', '.join(allowed)}"
        )
    kernels = [
        kernel
        for kernel in there[placed.sharding_type]
        if kernel in (("dense",) if placed.sharding_type == REPLICATED else COMPUTE_KERNELS)
    ]
    if placed.kernel not in kernels:
        raise ValueError(
            f"has the kernel {placed.kernel!r}: {placed.sharding_type} on "
            f"{context.cluster.device} has {', '.join(kernels)}"
        )
    _check_shards(placed, table, context.cluster)
    if context.cluster.device == "cpu" and any(shard.rows == 0 for shard in placed.shards):
        raise ValueError("leaves a rank without rows, which FBGEMM does not bear on a cpu")
    _check_ranks(placed, context.cluster)


def _trained_by(optimizer: str) -> list[str]:
    """Sharding types that leave an optimizer the algorithm that it is on a whole table."""
    if optimizer == "adam":
        return [REPLICATED]
    barred = CUT_BY_COLUMNS if optimizer == "rowwise_adagrad" else ()
    return [kind for kind in SHARDING_TYPES if kind not in barred]


def _check_shards(placed: PlacedTable, table: PlannedTable, cluster: PlannedCluster) -> None:
    """The shards must be those that TorchRec makes, in its order: they tile the table."""
    if not placed.shards or placed.shards[0].columns < 1:
        raise ValueError("has no shard, or a shard without columns")
    sizes, offsets = calculate_shard_sizes_and_offsets(
        torch.empty(table.rows, table.width, device="meta"),
        cluster.world_size,
        cluster.ranks_per_node,
        placed.sharding_type,
        col_wise_shard_dim=placed.shards[0].columns,
    )
    found = [_shown(s.rows, s.row, s.columns, s.column) for s in placed.shards]
    wanted = [
        _shown(rows, row, columns, column)
        for (rows, columns), (row, column) in zip(sizes, offsets, strict=True)
    ]
    shape = f"a {placed.sharding_type} table of {table.rows:,} x {table.width}"
    for number, (has, must) in enumerate(zip(found, wanted, strict=False)):
        if has != must:
            raise ValueError(f"has shard {number} of {has}: of {shape} it is {must}")
    if len(found) != len(wanted):
        raise ValueError(f"has {len(found)} shards: {shape} has {len(wanted)}")


def _shown(rows: int, row: int, columns: int, column: int) -> str:
    return f"{rows:,} rows from {row:,} and {columns} columns from {column}"


def _check_ranks(placed: PlacedTable, cluster: PlannedCluster) -> None:
    kind, local = placed.sharding_type, cluster.ranks_per_node
    ranks = [shard.rank for shard in placed.shards]
    for rank in ranks:
        if not 0 <= rank < cluster.world_size:
            raise ValueError(f"is on rank {rank}: there are {cluster.world_size}, from 0 on")
    node = ranks[0] // local
    if kind in (REPLICATED, "row_wise") and ranks != list(range(cluster.world_size)):
        raise ValueError(f"is {kind}: its shards must be on all ranks, in order")
    if kind == "table_column_wise" and {rank // local for rank in ranks} != {node}:
        raise ValueError(f"is {kind}: its shards must be on one node ({local} ranks)")
    if kind in ("table_row_wise", "grid_shard"):
        for first in range(0, len(ranks), local):
            node = ranks[first] // local
            if ranks[first : first + local] != list(range(node * local, (node + 1) * local)):
                raise ValueError(
                    f"is {kind}: {local} shards at a time must be on the ranks of a node, in order"
                )

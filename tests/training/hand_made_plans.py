"""Plans whose tables are cut as a test wants, and not as the planner would."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import torch
from torchrec.distributed.sharding_plan import calculate_shard_sizes_and_offsets

from dropdrift.data.schema import Schema
from dropdrift.sharding.planning import make_plan
from dropdrift.sharding.saved.context import Context, PlannedCluster, PlannedTable, context_of
from dropdrift.sharding.saved.document import document
from dropdrift.sharding.saved.placement import PlacedShard, PlacedTable, check_placement
from dropdrift.training.config import RecipeConfig
from dropdrift.training.distributed import Ranks
from dropdrift.training.placement import cluster_of
from dropdrift.training.plans.request import plan_request

KERNELS = {"data_parallel": "dense"}


def context_on(schema: Schema, config: RecipeConfig, ranks: Ranks, lookup_rows: int = 0) -> Context:
    """What a plan of this run on these ranks is for."""
    return context_of(plan_request(schema, config, cluster_of(config, ranks), lookup_rows))


def write_plan(
    schema: Schema,
    config: RecipeConfig,
    ranks: Ranks,
    kinds: Mapping[str, str],
    path: Path,
    lookup_rows: int = 0,
) -> Path:
    """The planner's plan in ``path``, every table by the sharding type that ``kinds`` names."""
    context = context_on(schema, config, ranks, lookup_rows)
    request = plan_request(schema, config, cluster_of(config, ranks), lookup_rows)
    plan = document(make_plan(request), {"command": "made by hand"})
    plan["placement"] = [asdict(table) for table in placed(context, kinds)]
    path.write_text(json.dumps(plan))
    return path


def placed(context: Context, kinds: Mapping[str, str]) -> list[PlacedTable]:
    """Every table by the sharding type that ``kinds`` names for it."""
    placement = [
        _cut(table, kinds[table.name], context.cluster, number)
        for number, table in enumerate(context.tables)
    ]
    check_placement(placement, context)
    return placement


def dealt(names: Sequence[str], kinds: Sequence[str], first: int = 0) -> dict[str, str]:
    """Each table's name with one of ``kinds``, in turn."""
    return {name: kinds[(first + i) % len(kinds)] for i, name in enumerate(names)}


def _cut(table: PlannedTable, kind: str, cluster: PlannedCluster, number: int) -> PlacedTable:
    """Columns in halves; where a kind leaves a choice of ranks, ``number`` decides."""
    sizes, offsets = calculate_shard_sizes_and_offsets(
        torch.empty(table.rows, table.width, device="meta"),
        cluster.world_size,
        cluster.ranks_per_node,
        kind,
        col_wise_shard_dim=table.width // 2,
    )
    shards = zip(_ranks(kind, len(sizes), cluster, number), offsets, sizes, strict=True)
    return PlacedTable(
        table=table.name,
        sharding_type=kind,
        kernel=KERNELS.get(kind, "fused"),
        shards=tuple(
            PlacedShard(rank, row, rows, column, columns)
            for rank, (row, column), (rows, columns) in shards
        ),
    )


def _ranks(kind: str, shards: int, cluster: PlannedCluster, number: int) -> list[int]:
    world, local = cluster.world_size, cluster.ranks_per_node
    if kind in ("row_wise", "data_parallel"):
        return list(range(world))
    if kind in ("table_wise", "column_wise"):
        return [(number + shard) % world for shard in range(shards)]
    nodes = [(number + shard // local) % cluster.nodes for shard in range(shards)]
    if kind == "table_column_wise":
        nodes = nodes[:1] * shards
    return [node * local + shard % local for shard, node in enumerate(nodes)]

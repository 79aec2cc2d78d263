"""Summaries of plans written by hand, for what judges and shows them."""

from __future__ import annotations

from collections.abc import Sequence

from dropdrift.sharding.summary import (
    ClusterSummary,
    Cost,
    PlanSummary,
    RankSummary,
    ShardSummary,
    TableSummary,
)

GIB = 2**30


def summary_of(
    tables: Sequence[TableSummary],
    nodes: int = 1,
    ranks_per_node: int = 4,
    device: str = "cuda",
    gib: float = 80.0,
) -> PlanSummary:
    """A plan whose ranks hold what the tables' shards say.

    Of the ``gib`` of a rank 15 are kept: 12 for activations, 2 for the dense part, 1 for batches.
    """
    own: list[list[ShardSummary]] = [[] for _ in range(nodes * ranks_per_node)]
    for table in tables:
        for shard in table.shards:
            own[shard.rank].append(shard)
    hardware = "H100" if device == "cuda" else "CPU"
    return PlanSummary(
        cluster=ClusterSummary(
            hardware, device, nodes, ranks_per_node, len(own), int(gib * GIB), 256 * GIB
        ),
        rows_per_rank=8_192,
        optimizer="rowwise_adagrad",
        tables=tuple(tables),
        ranks=tuple(
            RankSummary(
                rank=rank,
                node=rank // ranks_per_node,
                shards=len(shards),
                device_bytes=sum(shard.device_bytes for shard in shards),
                spilled_bytes=sum(shard.spilled_bytes for shard in shards),
                cost=Cost.sum(shard.cost for shard in shards),
            )
            for rank, shards in enumerate(own)
        ),
        margin_bytes=12 * GIB,
        dense_bytes=2 * GIB,
        input_bytes=GIB,
        proposals=1,
    )

"""Plans written by hand, for what shows them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from dropdrift.sharding.summary import (
    ClusterSummary,
    Cost,
    PlanSummary,
    RankSummary,
    ShardSummary,
    TableSummary,
)

GIB = 2**30
ROWS = 1_024

MadeTable = Callable[..., TableSummary]
MadePlan = Callable[..., PlanSummary]


@pytest.fixture(scope="session")
def made_table() -> MadeTable:
    """``made_table(name, ranks, gib, ms)``: cut evenly, a sixth of its time in each exchange.

    A 64th of its memory is optimizer state; inputs and outputs take another 64th of a GiB.
    """

    def make(
        name: str,
        ranks: Sequence[int],
        gib: float,
        ms: float,
        *,
        kind: str = "table_wise",
        kernel: str = "fused",
        ids: float = 2.0,
    ) -> TableSummary:
        """``gib`` and ``ms`` are of the whole table."""
        stored, part = int(gib * GIB / len(ranks)), ms / len(ranks) / 6
        state, host = stored // 64, kernel != "fused"
        cost = Cost(part, part, 3 * part, part)
        shards = tuple(
            ShardSummary(
                rank=rank,
                row=ROWS * index,
                rows=ROWS,
                column=0,
                columns=64,
                weight_bytes=stored - state,
                optimizer_bytes=state,
                device_bytes=GIB // 64 + (0 if host else stored),
                spilled_bytes=stored if host else 0,
                cost=cost,
            )
            for index, rank in enumerate(ranks)
        )
        rows = ROWS * len(ranks)
        return TableSummary(name, rows, 64, 4, (name,), ids, kind, kernel, shards)

    return make


@pytest.fixture(scope="session")
def made_plan() -> MadePlan:
    """``made_plan(tables, nodes, ranks_per_node)`` on 80 GiB a rank, of which 15 are kept."""

    def make(
        tables: Sequence[TableSummary],
        nodes: int = 1,
        ranks_per_node: int = 4,
        device: str = "cuda",
        gib: float = 80.0,
    ) -> PlanSummary:
        """Ranks hold what the tables' shards say."""
        own: list[list[ShardSummary]] = [[] for _ in range(nodes * ranks_per_node)]
        for table in tables:
            for shard in table.shards:
                own[shard.rank].append(shard)
        hardware = "H100" if device == "cuda" else "CPU"
        capacity = int(gib * GIB)
        return PlanSummary(
            cluster=ClusterSummary(
                hardware, device, nodes, ranks_per_node, len(own), capacity, 256 * GIB
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

    return make

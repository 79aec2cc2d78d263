"""Plans written by hand, for what shows them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
from tests.sharding.summaries import GIB, summary_of

from dropdrift.sharding.summary import Cost, PlanSummary, ShardSummary, TableSummary

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
    return summary_of

"""What a plan must keep to: no skew, no spill, no rank fuller than full. Needs no torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from dropdrift.sharding.config import PlanLimits
from dropdrift.sharding.summary import (
    PlanSummary,
    RankSummary,
    ShardSummary,
    TableSummary,
)
from dropdrift.sharding.wording import GIB, NAMED, counted, digits, gib

# Skew of less than this harms nobody: a tenth of a rank's memory, a millisecond a step.
LEAST_SHARE_OF_MEMORY = 0.1
LEAST_STEP_MS = 1.0


def broken_limits(summary: PlanSummary, limits: PlanLimits) -> list[str]:
    """What is wrong with a plan, the gravest first, one line each; empty where nothing is.

    A rank that holds more than fits is wrong whatever the limits are: TorchRec counts no optimizer
    state of replicated tables, and that of others in the precision of the weights.
    """
    return [
        *too_full(summary),
        *_spilled(summary, limits.max_spill_gib),
        *_skewed_memory(summary, limits.max_skew),
        *_skewed_time(summary, limits.max_skew),
    ]


def too_full(summary: PlanSummary) -> list[str]:
    """Where a rank holds more than it has, which no limit allows, one line for each memory.

    In bytes with the whole optimizer state, which a run will take, not in TorchRec's own.
    """
    cluster = summary.cluster
    lines = []
    fullest = summary.fullest_rank()
    over = fullest.device_bytes - summary.available_bytes
    if over > 0:
        lines.append(
            f"rank {fullest.rank} holds {gib(fullest.device_bytes)} GiB, {gib(over)} more than the "
            f"{gib(summary.available_bytes)} that tables may take of its "
            f"{gib(cluster.device_bytes)}: the rest is for activations "
            f"({gib(summary.margin_bytes)}), the dense part ({gib(summary.dense_bytes)}) and "
            f"batches ({gib(summary.input_bytes)})"
        )
    fullest = max(summary.ranks, key=lambda rank: rank.spilled_bytes)
    over = fullest.spilled_bytes - cluster.host_bytes
    if over > 0:
        lines.append(
            f"rank {fullest.rank} holds {gib(fullest.spilled_bytes)} GiB in host memory, "
            f"{gib(over)} more than its {gib(cluster.host_bytes)}"
        )
    return lines


def _spilled(summary: PlanSummary, max_spill_gib: float) -> list[str]:
    if summary.spilled_bytes <= max_spill_gib * GIB:
        return []
    tables = summary.spilled_tables()
    named = ", ".join(f"{table.name} {gib(table.spilled_bytes)}" for table in tables[:NAMED])
    rest = tables[NAMED:]
    if rest:
        named += f" and {len(rest)} more {gib(sum(table.spilled_bytes for table in rest))}"
    live = "lives" if len(tables) == 1 else "live"
    return [
        f"{gib(summary.spilled_bytes)} GiB of {counted(len(tables), 'table')} {live} in host "
        f"memory: {named}: more than limits.max_spill_gib {max_spill_gib:g}"
    ]


def _skewed_memory(summary: PlanSummary, max_skew: float) -> list[str]:
    fullest = summary.fullest_rank()
    counts = fullest.device_bytes >= LEAST_SHARE_OF_MEMORY * summary.cluster.device_bytes
    if not counts or summary.memory_skew <= max_skew:
        return []
    name, amount = _most(summary.tables, fullest, lambda shard: shard.device_bytes)
    return [
        f"rank {fullest.rank} holds {gib(fullest.device_bytes)} GiB, {summary.memory_skew:.2f} "
        f"times the mean of {gib(summary.mean_bytes)} GiB: more than limits.max_skew "
        f"{max_skew:g}; {name} takes {gib(amount)} of it"
    ]


def _skewed_time(summary: PlanSummary, max_skew: float) -> list[str]:
    if summary.step_ms < LEAST_STEP_MS or summary.time_skew <= max_skew:
        return []
    slowest = summary.slowest_rank()
    name, amount = _most(summary.tables, slowest, lambda shard: shard.cost.total)
    return [
        f"rank {slowest.rank} takes {digits(summary.step_ms)} ms a step, {summary.time_skew:.2f} "
        f"times the mean of {digits(summary.mean_ms)} ms: more than limits.max_skew {max_skew:g}; "
        f"{name} takes {digits(amount)} of it"
    ]


def _most(
    tables: Sequence[TableSummary], rank: RankSummary, amount: Callable[[ShardSummary], float]
) -> tuple[str, float]:
    """The table that has the most on a rank, and how much."""
    shares = {
        table.name: sum(amount(shard) for shard in table.shards if shard.rank == rank.rank)
        for table in tables
    }
    name = max(shares, key=lambda table: shares[table])
    return name, shares[name]

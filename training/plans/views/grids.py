"""The numbers of a plan as text, which the terminal and the page both show. Needs no torch."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import pairwise

from dropdrift.sharding.summary import Cost, PlanSummary, RankSummary, TableSummary
from dropdrift.sharding.wording import counted, digits
from dropdrift.training.comparison import Grid

TABLES_SHOWN = 40
# More ranks than these are shown by node.
RANKS_SHOWN = 32
# A list of ranks that is longer is shortened.
RANKS_WIDTH = 14
UNITS = ("B", "KiB", "MiB", "GiB")

TIMES_NOTE = (
    "Times are TorchRec's estimates of one training step's embeddings from the bandwidths of "
    "hardware {hardware}, without the dense part. A preset's bandwidths are peaks, which no "
    "machine reaches: its times are for comparing plans."
)
MEMORY_NOTE = (
    "Sizes of tables (weights and optimizer state) are exact. What inputs, outputs and batches on "
    "their way take is TorchRec's estimate; the dense part is counted from the model's parameters."
)


def size(amount: float) -> str:
    """Bytes in the largest binary unit up to GiB that they fill, with three digits."""
    unit = 0
    while unit + 1 < len(UNITS) and abs(amount) >= 1023.5:
        amount, unit = amount / 1024, unit + 1
    return f"{digits(amount)} {UNITS[unit]}"


def milliseconds(amount: float) -> str:
    """Three digits, without the unit."""
    return "<0.001" if 0 < amount < 0.0005 else digits(amount)


def share(part: float, whole: float) -> str:
    """``part`` as a percentage of ``whole``; a dash where there is nothing."""
    if whole <= 0:
        return "-"
    return "<1%" if 0 < part < 0.005 * whole else f"{part / whole:,.0%}"


def rank_ranges(ranks: Sequence[int]) -> str:
    """Ascending ranks: ``0-7``, ``3, 8-15``, or ``40 of 0-127`` where that is too long."""
    if not ranks:
        return "-"
    gaps = [i for i, (a, b) in enumerate(pairwise(ranks), 1) if b != a + 1]
    runs = [ranks[a:b] for a, b in pairwise([0, *gaps, len(ranks)])]
    text = ", ".join(str(r[0]) if len(r) == 1 else f"{r[0]}-{r[-1]}" for r in runs)
    return text if len(text) <= RANKS_WIDTH else f"{len(ranks)} of {ranks[0]}-{ranks[-1]}"


def cluster_text(summary: PlanSummary) -> str:
    """The cluster in words."""
    cluster = summary.cluster
    nodes = counted(cluster.nodes, "node")
    if cluster.device == "cpu":
        return f"{nodes} of {counted(cluster.ranks_per_node, 'rank')}, hardware {cluster.hardware}"
    total = "" if cluster.nodes == 1 else f": {counted(cluster.world_size, 'rank')}"
    return f"{nodes} of {cluster.ranks_per_node} {cluster.hardware}{total}"


def headline(summary: PlanSummary) -> tuple[tuple[str, str], ...]:
    """What matters first, as pairs of a name and its value."""
    cluster = summary.cluster
    fullest, slowest = summary.fullest_rank(), summary.slowest_rank()
    lines = [
        ("Cluster", cluster_text(summary)),
        (
            "Rows",
            f"{summary.rows_per_rank:,} looked up by a rank in a step, "
            f"{summary.rows_per_rank * cluster.world_size:,} by all",
        ),
        (
            "Step",
            f"{milliseconds(summary.step_ms)} ms on embeddings, on the slowest rank: "
            f"{rounded(summary.looked_up_per_second)} rows looked up/s if there were nothing else",
        ),
        (
            "Tables",
            f"{len(summary.tables)}, with {summary.optimizer}: {size(summary.stored_bytes)} of "
            "weights and optimizer state",
        ),
        ("Memory", _memory_text(summary)),
        (
            "Fullest",
            f"rank {fullest.rank}: {size(fullest.device_bytes)}, "
            f"{share(fullest.device_bytes, summary.available_bytes)} of what is available, "
            f"{summary.memory_skew:.2f} times the mean",
        ),
        (
            "Slowest",
            f"rank {slowest.rank}: {milliseconds(slowest.cost.total)} ms, "
            f"{summary.time_skew:.2f} times the mean",
        ),
    ]
    if summary.spilled_bytes:
        lines.append(("Host memory", _spilled_text(summary)))
    return tuple(lines)


def rank_grid(summary: PlanSummary) -> Grid:
    """A row for each rank."""
    spilled, prefetch = summary.spilled_bytes > 0, any(r.cost.prefetch for r in summary.ranks)
    several = summary.cluster.nodes > 1

    def row(rank: RankSummary) -> Iterable[str]:
        """The cells of a rank."""
        yield f"{rank.rank}"
        if several:
            yield f"{rank.node}"
        yield from (f"{rank.shards}", size(rank.device_bytes))
        yield share(rank.device_bytes, summary.mean_bytes)
        yield share(rank.device_bytes, summary.available_bytes)
        if spilled:
            yield size(rank.spilled_bytes)
        yield from map(milliseconds, _parts(rank.cost, prefetch))
        yield share(rank.cost.total, summary.mean_ms)

    return Grid(
        "Ranks, ms of a step",
        (
            *("Rank", "Node")[: 1 + several],
            *("Shards", _device_memory(summary), "of mean", "of available"),
            *(["Host memory"] if spilled else []),
            *("Forward", "Backward", "Communication"),
            *(["Prefetch"] if prefetch else []),
            *("Step", "of mean"),
        ),
        tuple(tuple(row(rank)) for rank in summary.ranks),
    )


def node_grid(summary: PlanSummary) -> Grid:
    """A row for each node, or for several that follow each other where there are many."""
    nodes = summary.cluster.nodes
    together = math.ceil(nodes / RANKS_SHOWN)
    ranks_each = together * summary.cluster.ranks_per_node
    groups = [
        summary.ranks[first : first + ranks_each]
        for first in range(0, len(summary.ranks), ranks_each)
    ]
    spilled = summary.spilled_bytes > 0

    def row(group: Sequence[RankSummary]) -> Iterable[str]:
        """The cells of the ranks of some nodes."""
        yield rank_ranges(sorted({rank.node for rank in group}))
        yield rank_ranges([rank.rank for rank in group])
        used = [rank.device_bytes for rank in group]
        yield from map(size, (min(used), sum(used) / len(used), max(used)))
        yield share(max(used), summary.available_bytes)
        if spilled:
            yield size(max(rank.spilled_bytes for rank in group))
        times = [rank.cost.total for rank in group]
        yield from map(milliseconds, (min(times), sum(times) / len(times), max(times)))
        yield share(max(times), summary.mean_ms)

    memory = _device_memory(summary)
    return Grid(
        "Nodes: least, mean and most of their ranks, ms of a step",
        (
            *("Node", "Ranks", f"{memory} least", "mean", "most", "of available"),
            *(["Host memory"] if spilled else []),
            *("Step least", "mean", "most", "of mean"),
        ),
        tuple(tuple(row(group)) for group in groups),
    )


def table_grid(tables: Sequence[TableSummary], rest: Sequence[TableSummary] = ()) -> Grid:
    """A row for each of ``tables``, and one for ``rest`` where there are any."""
    rows = [
        (
            table.name,
            table.sharding_type,
            table.kernel,
            rank_ranges(table.ranks),
            f"{table.rows:,}",
            f"{table.width}",
            precision(table),
            f"{table.ids_per_row:.3g}" if table.ids_per_row < 1000 else digits(table.ids_per_row),
            size(table.stored_bytes),
            milliseconds(table.cost.total),
        )
        for table in tables
    ]
    if rest:
        stored = size(sum(table.stored_bytes for table in rest))
        cost = milliseconds(sum(table.cost.total for table in rest))
        rows.append((f"... {len(rest)} more", "", "", "", "", "", "", "", stored, cost))
    return Grid(
        (f"The {len(tables)} tables that take most memory or time" if rest else "Tables")
        + ", ms summed over ranks",
        (
            *("Table", "Type", "Kernel", "Ranks", "Rows", "Width", "Precision", "Ids a row"),
            *("Size", "ms"),
        ),
        tuple(rows),
    )


def largest_tables(
    summary: PlanSummary, count: int = TABLES_SHOWN
) -> tuple[list[TableSummary], list[TableSummary]]:
    """The ``count`` tables with the greatest share of all bytes or time, and the rest, by size."""
    stored = summary.stored_bytes or 1
    cost = sum(table.cost.total for table in summary.tables) or 1.0

    def weight(table: TableSummary) -> float:
        """The greater of a table's shares of bytes and of time."""
        return max(table.stored_bytes / stored, table.cost.total / cost)

    ordered = sorted(summary.tables, key=weight, reverse=True)
    return by_size(ordered[:count]), by_size(ordered[count:])


def by_size(tables: Iterable[TableSummary]) -> list[TableSummary]:
    """Largest first, of equal ones the most expensive, then by name."""
    return sorted(tables, key=lambda t: (-t.stored_bytes, -t.cost.total, t.name))


def precision(table: TableSummary) -> str:
    """What a table's numbers are kept in."""
    return {4: "fp32", 2: "fp16"}.get(table.bytes_per_number, f"{8 * table.bytes_per_number}-bit")


def rounded(number: float) -> str:
    """A large number to three digits that count."""
    places = 2 - math.floor(math.log10(number)) if number > 0 else 0
    return f"{round(number, min(places, 0)):,.0f}" if number >= 100 else digits(number)


def _parts(cost: Cost, prefetch: bool) -> list[float]:
    communication = cost.forward_communication + cost.backward_communication
    between = [cost.prefetch] if prefetch else []
    return [cost.forward_compute, cost.backward_compute, communication, *between, cost.total]


def _memory_text(summary: PlanSummary) -> str:
    """What a rank has, and what is kept from tables."""
    kept = [
        (summary.margin_bytes, "for activations and the allocator"),
        (summary.dense_bytes, "for the dense part"),
        (summary.input_bytes, "for batches on their way"),
    ]
    texts = ", ".join(f"{size(amount)} {what}" for amount, what in kept if amount)
    return (
        f"{size(summary.cluster.device_bytes)} a rank, {size(summary.available_bytes)} available "
        f"to tables, their inputs and outputs; kept: {texts or 'nothing'}"
    )


def _spilled_text(summary: PlanSummary) -> str:
    tables = len(summary.spilled_tables())
    most = max(rank.spilled_bytes for rank in summary.ranks)
    return (
        f"{size(summary.spilled_bytes)} of {counted(tables, 'table')}, at most "
        f"{size(most)} of a rank's {size(summary.cluster.host_bytes)}"
    )


def _device_memory(summary: PlanSummary) -> str:
    return "HBM" if summary.cluster.device == "cuda" else "Memory"

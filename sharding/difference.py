"""Two plans compared: tables that go elsewhere, ranks before and after, and bytes that move.

What moves is what a rank holds after and did not hold before: weights, and optimizer state where
the optimizer is the same. Ranks are taken for the same machines in both plans. A table that is new
or has another size is made anew, and one that goes from a GPU's memory to its host's stays on its
rank: neither moves.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from dropdrift.sharding.saved.context import Context, PlannedTable, differences
from dropdrift.sharding.saved.document import SavedPlan
from dropdrift.sharding.saved.placement import PlacedShard, PlacedTable
from dropdrift.sharding.summary import STATE_BYTES, RankSummary, state_numbers


@dataclass(frozen=True)
class TablePlace:
    """How a table is cut, looked up, and where it is."""

    sharding_type: str
    kernel: str
    ranks: tuple[int, ...]


@dataclass(frozen=True)
class TableDifference:
    """A table that both plans have, of the same size.

    Attributes:
        name: of the table.
        before: how and where it was.
        after: how and where it is.
        stored_bytes: of weights and optimizer state on all ranks after.
        moved_bytes: of these, what its rank did not hold before.
        changed: whether the placement or kernel is another; shards may also swap ranks.
    """

    name: str
    before: TablePlace
    after: TablePlace
    stored_bytes: int
    moved_bytes: int
    changed: bool


@dataclass(frozen=True)
class RankLoad:
    """Memory and estimated time of a rank; see ``RankSummary``."""

    device_bytes: int
    spilled_bytes: int
    ms: float


@dataclass(frozen=True)
class RankDifference:
    """A rank of either plan.

    Attributes:
        rank: its number.
        before: its load, or none where there was no such rank.
        after: its load, or none where there is no such rank.
        received_bytes: what it holds after and did not hold before.
    """

    rank: int
    before: RankLoad | None
    after: RankLoad | None
    received_bytes: int


@dataclass(frozen=True)
class PlanTotals:
    """A plan's sums; see ``PlanSummary``.

    Attributes:
        step_ms: estimated time of the slowest rank.
        fullest_bytes: device memory of the fullest rank.
        spilled_bytes: host memory of GPU machines that tables take.
        memory_skew: the fullest rank's memory over the mean.
        time_skew: the slowest rank's time over the mean.
        edited: whether the placement was edited, and these numbers are of the plan as it was made.
    """

    step_ms: float
    fullest_bytes: int
    spilled_bytes: int
    memory_skew: float
    time_skew: float
    edited: bool


@dataclass(frozen=True)
class PlanDifference:
    """What differs between two plans.

    Attributes:
        before: sums of the first plan.
        after: sums of the second plan.
        made_for: one line for each thing in which what the plans are for differs, besides tables
            that one of them has not.
        new: tables that only the second plan has.
        gone: tables that only the first plan has.
        resized: tables with other rows, columns or bytes a number.
        tables: that both have, of the same size; most moved bytes first, then what changed.
        ranks: of either plan, ascending.
        moved_bytes: of all tables.
    """

    before: PlanTotals
    after: PlanTotals
    made_for: tuple[str, ...]
    new: tuple[str, ...]
    gone: tuple[str, ...]
    resized: tuple[str, ...]
    tables: tuple[TableDifference, ...]
    ranks: tuple[RankDifference, ...]
    moved_bytes: int


def compare(before: SavedPlan, after: SavedPlan) -> PlanDifference:
    """What differs between two plans, and what moves where a run goes from one to the other."""
    old, new = ({t.name: t for t in plan.context.tables} for plan in (before, after))
    same = [name for name in new if name in old and _shape(old[name]) == _shape(new[name])]
    was, now = ({p.table: p for p in plan.placement} for plan in (before, after))
    optimizers = (before.context.optimizer, after.context.optimizer)
    received: dict[int, int] = defaultdict(int)
    tables = []
    for name in same:
        moved = _received(new[name], was[name].shards, now[name].shards, optimizers)
        for rank, amount in moved.items():
            received[rank] += amount
        tables.append(
            TableDifference(
                name=name,
                before=_place(was[name]),
                after=_place(now[name]),
                stored_bytes=_stored(new[name], now[name].shards, optimizers[1]),
                moved_bytes=sum(moved.values()),
                changed=was[name] != now[name],
            )
        )
    return PlanDifference(
        before=_totals(before),
        after=_totals(after),
        made_for=tuple(differences(_with(before.context, new), _with(after.context, old))),
        new=tuple(name for name in new if name not in old),
        gone=tuple(name for name in old if name not in new),
        resized=tuple(name for name in new if name in old and name not in same),
        tables=tuple(sorted(tables, key=lambda t: (-t.moved_bytes, not t.changed, t.name))),
        ranks=tuple(_ranks(before.summary.ranks, after.summary.ranks, received)),
        moved_bytes=sum(received.values()),
    )


def _with(context: Context, tables: Container[str]) -> Context:
    """The context with those of its tables alone that are among ``tables``."""
    return replace(context, tables=tuple(t for t in context.tables if t.name in tables))


def _totals(plan: SavedPlan) -> PlanTotals:
    summary = plan.summary
    return PlanTotals(
        step_ms=summary.step_ms,
        fullest_bytes=summary.fullest_bytes,
        spilled_bytes=summary.spilled_bytes,
        memory_skew=summary.memory_skew,
        time_skew=summary.time_skew,
        edited=plan.is_edited,
    )


def _received(
    table: PlannedTable,
    before: Sequence[PlacedShard],
    after: Sequence[PlacedShard],
    optimizers: tuple[str, str],
) -> dict[int, int]:
    """Bytes of a table that each rank holds after and did not hold before."""
    # The state of another optimizer is of no use.
    optimizer = optimizers[1] if optimizers[0] == optimizers[1] else None
    held: dict[int, list[PlacedShard]] = defaultdict(list)
    for shard in before:
        held[shard.rank].append(shard)
    received: dict[int, int] = defaultdict(int)
    for shard in after:
        # A rank's shards of a table have nothing in common with each other.
        there = sum(_bytes(table, *_overlap(shard, old), optimizer) for old in held[shard.rank])
        received[shard.rank] += _bytes(table, shard.rows, shard.columns, optimizer) - there
    return received


def _overlap(first: PlacedShard, second: PlacedShard) -> tuple[int, int]:
    """Rows and columns that two shards have in common."""
    rows = min(first.row + first.rows, second.row + second.rows) - max(first.row, second.row)
    end = min(first.column + first.columns, second.column + second.columns)
    columns = end - max(first.column, second.column)
    return (rows, columns) if rows > 0 and columns > 0 else (0, 0)


def _stored(table: PlannedTable, shards: Sequence[PlacedShard], optimizer: str) -> int:
    return sum(_bytes(table, shard.rows, shard.columns, optimizer) for shard in shards)


def _bytes(table: PlannedTable, rows: int, columns: int, optimizer: str | None) -> int:
    """Of a rectangle's weights, and of its optimizer's state where one counts."""
    state = state_numbers(optimizer, columns) if optimizer and columns else 0
    return rows * (columns * table.bytes_per_number + state * STATE_BYTES)


def _shape(table: PlannedTable) -> tuple[int, int, int]:
    return table.rows, table.width, table.bytes_per_number


def _place(placed: PlacedTable) -> TablePlace:
    return TablePlace(placed.sharding_type, placed.kernel, placed.ranks)


def _ranks(
    before: Sequence[RankSummary], after: Sequence[RankSummary], received: Mapping[int, int]
) -> Iterator[RankDifference]:
    for rank in range(max(len(before), len(after))):
        was, now = (ranks[rank] if rank < len(ranks) else None for ranks in (before, after))
        yield RankDifference(rank, _load(was), _load(now), received.get(rank, 0))


def _load(rank: RankSummary | None) -> RankLoad | None:
    if rank is None:
        return None
    return RankLoad(rank.device_bytes, rank.spilled_bytes, rank.cost.total)

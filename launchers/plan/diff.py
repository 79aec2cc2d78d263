"""``dropdrift plan diff``: two plans compared, with the bytes that move from one to the other."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

from dropdrift.launchers.options import parse_config
from dropdrift.launchers.plan.output import check_outputs, write_json
from dropdrift.sharding.wording import listed
from dropdrift.training.comparison import Grid
from dropdrift.training.plans.views.grids import (
    RANKS_SHOWN,
    TABLES_SHOWN,
    milliseconds,
    rank_ranges,
    share,
    size,
)
from dropdrift.training.plans.views.terminal import plan_console, print_fitted, printable

if TYPE_CHECKING:
    from dropdrift.sharding.difference import (
        PlanDifference,
        PlanTotals,
        RankDifference,
        TableDifference,
    )

FORMAT = 1  # of the JSON document
LINES_SHOWN = 12
NOTE = (
    "What moves is what a rank holds after and did not hold before, ranks being the same machines: "
    "weights, and optimizer state where the optimizer is the same. These bytes are exact. Tables "
    "that are new or have another size are made anew. Memory includes TorchRec's estimates of "
    "inputs and outputs; all times are its estimates."
)


@dataclass(frozen=True)
class DiffConfig:
    """How the comparison is shown.

    Attributes:
        json: File to write all numbers to; - writes them to the terminal instead of the tables.
    """

    json: Path | None = None


def run(arguments: list[str]) -> int:
    """Compare two plans that were saved, or that came with checkpoints.

    Raises:
        ValueError: a file is missing or holds no plan.
    """
    arguments, files = list(arguments), []
    while arguments and not arguments[0].startswith("-"):
        files.append(Path(arguments.pop(0)))
    config = parse_config(
        DiffConfig,
        arguments,
        prog="dropdrift plan diff A.json B.json",
        description="Compare two plans, and count the bytes that move from the one to the other.",
    )
    if len(files) != 2:
        raise ValueError(
            f"plan diff compares two plans, found {len(files)}: name two files of 'dropdrift plan "
            "save' or 'plan show --json', or plan.json of checkpoints"
        )
    check_outputs(config.json)
    from dropdrift.sharding.difference import compare
    from dropdrift.sharding.saved.document import read_plan

    difference = compare(*map(read_plan, files))
    names = {"before": str(files[0]), "after": str(files[1])}
    envelope = {"kind": "difference", "format": FORMAT, "plans": names}
    if not write_json(envelope | asdict(difference), config.json):
        print_difference(files, difference)
    return 0


def print_difference(
    names: Sequence[Path], difference: PlanDifference, console: Console | None = None
) -> None:
    """Print what differs: all in all, by table and by rank."""
    console = console or plan_console()
    title = " and ".join(printable(str(name)) for name in names)
    console.print(Text(f"{title} compared\n", style="bold"))
    for line in _headlines(difference):
        console.print(Text(printable(line)))
    changed = [table for table in difference.tables if table.changed]
    if changed:
        print_fitted(_table_grid(changed[:TABLES_SHOWN]), console, ("Size",))
        for line in _not_shown(difference, changed[TABLES_SHOWN:]):
            console.print(Text(line, style="dim"))
    print_fitted(_rank_grid(difference), console, ())
    console.print(Text(f"\n{NOTE}", style="dim"))


def _headlines(difference: PlanDifference) -> Iterator[str]:
    before, after, lines = difference.before, difference.after, difference.made_for
    for line in lines[:LINES_SHOWN]:
        yield f"Made for: {line}"
    if len(lines) > LINES_SHOWN:
        yield f"Made for: {len(lines) - LINES_SHOWN} more differences"
    for name, tables in (
        ("New", difference.new),
        ("Gone", difference.gone),
        ("Resized", difference.resized),
    ):
        if tables:
            yield f"{name}: {listed(tables, LINES_SHOWN)}"
    yield (
        f"Step: {milliseconds(before.step_ms)} ms before, {milliseconds(after.step_ms)} after; "
        f"the slowest rank has {before.time_skew:.2f} times the mean before, "
        f"{after.time_skew:.2f} after"
    )
    yield (
        f"Memory: {size(before.fullest_bytes)} on the fullest rank before, "
        f"{size(after.fullest_bytes)} after: {before.memory_skew:.2f} times the mean before, "
        f"{after.memory_skew:.2f} after"
    )
    if before.spilled_bytes or after.spilled_bytes:
        yield (
            f"Host memory: {size(before.spilled_bytes)} before, {size(after.spilled_bytes)} after"
        )
    yield _moves(difference)
    yield from _edited(before, after)


def _moves(difference: PlanDifference) -> str:
    stored = sum(table.stored_bytes for table in difference.tables)
    most = max(difference.ranks, key=lambda rank: rank.received_bytes)
    if not difference.moved_bytes:
        return "Moves: nothing"
    return (
        f"Moves: {size(difference.moved_bytes)} of the {size(stored)} of tables "
        f"({share(difference.moved_bytes, stored)}); rank {most.rank} receives most, "
        f"{size(most.received_bytes)}"
    )


def _edited(before: PlanTotals, after: PlanTotals) -> Iterator[str]:
    for which, totals in (("first", before), ("second", after)):
        if totals.edited:
            yield (
                f"The {which} plan's placement was edited: its estimates are of the plan as it "
                "was made"
            )


def _table_grid(tables: Sequence[TableDifference]) -> Grid:
    with_kernel = any(table.before.kernel != table.after.kernel for table in tables)

    def row(table: TableDifference) -> Iterator[str]:
        """The cells of a table."""
        before, after = table.before, table.after
        yield table.name
        yield _arrow(before.sharding_type, after.sharding_type)
        if with_kernel:
            yield _arrow(before.kernel, after.kernel)
        yield _arrow(rank_ranges(before.ranks), rank_ranges(after.ranks))
        yield size(table.stored_bytes)
        yield size(table.moved_bytes) if table.moved_bytes else "-"

    kernel = ["Kernel"] if with_kernel else []
    return Grid(
        "Tables that go elsewhere",
        ("Table", "Type", *kernel, "Ranks", "Size", "Moves"),
        tuple(tuple(row(table)) for table in tables),
    )


def _not_shown(difference: PlanDifference, changed: Sequence[TableDifference]) -> Iterator[str]:
    """What is not in the table of tables."""
    if changed:
        yield f"... and {len(changed)} more, {size(sum(t.moved_bytes for t in changed))}"
    stay = sum(not table.changed for table in difference.tables)
    if stay:
        yield f"... and {stay} more that did not move"


def _rank_grid(difference: PlanDifference) -> Grid:
    """A row for each rank, or for several that follow each other: the most of any of them."""
    ranks = difference.ranks
    together = math.ceil(len(ranks) / RANKS_SHOWN)
    groups = [ranks[first : first + together] for first in range(0, len(ranks), together)]
    spilled = difference.before.spilled_bytes or difference.after.spilled_bytes
    host = ["Host before", "after"] if spilled else []
    rows = tuple(tuple(_rank_row(group, bool(spilled))) for group in groups)
    return Grid(
        "Ranks, ms of a step" if together == 1 else "Most of any of several ranks, ms of a step",
        ("Rank", "Memory before", "after", *host, "Step before", "after", "Receives"),
        rows,
    )


def _rank_row(group: Sequence[RankDifference], spilled: bool) -> Iterator[str]:
    sides = ([rank.before for rank in group], [rank.after for rank in group])
    loads = [[load for load in side if load is not None] for side in sides]
    yield rank_ranges([rank.rank for rank in group])
    for side in loads:
        yield size(max(load.device_bytes for load in side)) if side else "-"
    for side in loads if spilled else ():
        yield size(max(load.spilled_bytes for load in side)) if side else "-"
    for side in loads:
        yield milliseconds(max(load.ms for load in side)) if side else "-"
    received = max(rank.received_bytes for rank in group)
    yield size(received) if received else "-"


def _arrow(before: str, after: str) -> str:
    return before if before == after else f"{before} → {after}"

"""Why a table is where it is, on the terminal and as JSON."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from dropdrift.sharding.explanation import Explanation, OptionSummary
from dropdrift.sharding.wording import gib, listed
from dropdrift.training.comparison import Grid
from dropdrift.training.plans.views.grids import (
    MEMORY_NOTE,
    TIMES_NOTE,
    milliseconds,
    precision,
    rank_ranges,
    size,
)
from dropdrift.training.plans.views.terminal import plan_console, print_fitted, printable

FORMAT = 1  # of the JSON document
# Fields that are named before the rest is counted.
FIELDS_NAMED = 6
COST_TITLES = ("Forward", "Backward", "Sent", "Sent back", "Slowest")
# What narrow terminals are not shown, first one first.
NARROW = ("All parts", "Parts", "Host GiB", "Sent back", "Sent")


def print_explanation(name: str, explanation: Explanation, console: Console | None = None) -> None:
    """Print every option of a table: what the plan would be, what it costs, what is not offered.

    Args:
        name: of the configuration that was planned.
        explanation: the options.
        console: without one, :func:`~dropdrift.training.plans.terminal.plan_console`.
    """
    console = console or plan_console()
    console.print(Text(f"{printable(explanation.table.name)} in {printable(name)}\n", style="bold"))
    for line in _about(explanation):
        console.print(Text(printable(line)))
    console.print()
    console.print(_plans(explanation))
    print_fitted(_costs(explanation), console, NARROW)
    console.print()
    for left_out in explanation.not_offered:
        console.print(Text(f"Not offered: {left_out.what} ({left_out.why})"))
    note = TIMES_NOTE.format(hardware=explanation.cluster.hardware)
    console.print(Text(f"\n{note} {MEMORY_NOTE}", style="dim"))


def document(explanation: Explanation, provenance: Mapping[str, Any]) -> dict[str, Any]:
    """An explanation for JSON, in bytes and milliseconds.

    Its keys are the attributes of :class:`~dropdrift.sharding.explanation.Explanation` and of what
    it holds, which are described there.
    """
    return {
        "kind": "explanation",
        "format": FORMAT,
        "explanation": asdict(explanation),
        "provenance": provenance,
    }


def _about(explanation: Explanation) -> Iterator[str]:
    table, cluster = explanation.table, explanation.cluster
    memory = "host memory" if cluster.device == "cpu" else "HBM"
    ids = "id" if table.ids_per_row == 1 else "ids"
    ranks = "rank" if len(table.ranks) == 1 else "ranks"
    yield (
        f"{table.rows:,} rows of {table.width} in {precision(table)}, {size(table.stored_bytes)} "
        f"with the state of {explanation.optimizer}"
    )
    yield (
        f"looked up by {listed(table.fields, FIELDS_NAMED)}: {table.ids_per_row:.3g} {ids} in each "
        f"of the {explanation.rows_per_rank:,} rows of a rank"
    )
    yield (
        f"{table.sharding_type}/{table.kernel} on {ranks} {rank_ranges(table.ranks)} of "
        f"{cluster.nodes} x {cluster.ranks_per_node} {cluster.hardware}, in a plan of "
        f"{milliseconds(explanation.step_ms)} ms a step; a rank has "
        f"{gib(explanation.available_bytes)} GiB of {memory} for tables"
    )
    yield from (f"but {problem}" for problem in explanation.problems)


def _plans(explanation: Explanation) -> Table:
    grid = Table(
        title=Text(
            "The plan with each option: its step, its fullest rank, how many ranks hold the table",
            style="bold",
        ),
        title_justify="left",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        padding=(0, 1, 0, 0),
    )
    grid.add_column("Option", no_wrap=True)
    for title in ("Step ms", "GiB", "Ranks"):
        grid.add_column(title, justify="right", no_wrap=True)
    grid.add_column("Why")
    for option in explanation.options:
        plan = option.plan
        planned = (
            ("-", "-", "-")
            if plan is None
            else (milliseconds(plan.step_ms), gib(plan.fullest_bytes), f"{plan.ranks}")
        )
        grid.add_row(*map(Text, (_name(option), *planned, option.why)))
    return grid


def _costs(explanation: Explanation) -> Grid:
    on_cpu = explanation.cluster.device == "cpu"
    memory = ("Memory GiB",) if on_cpu else ("HBM GiB", "Host GiB")
    return Grid(
        "The table itself: its largest part; ms of its slowest, computed and sent",
        ("Option", "Parts", *memory, *COST_TITLES, "All parts"),
        tuple(tuple(_cost_cells(option, on_cpu)) for option in explanation.options),
    )


def _cost_cells(option: OptionSummary, on_cpu: bool) -> Iterator[str]:
    cost = option.slowest
    yield from (_name(option), f"{option.shards}", gib(option.device_bytes))
    if not on_cpu:
        yield gib(option.spilled_bytes)
    yield from map(milliseconds, (cost.forward_compute, cost.backward_compute))
    yield from map(milliseconds, (cost.forward_communication, cost.backward_communication))
    yield from map(milliseconds, (cost.total, option.cost.total))


def _name(option: OptionSummary) -> str:
    """As a rule of ``sharding.tables`` has it."""
    return f"{option.sharding_type}/{option.kernel}"

"""A plan on the terminal, 120 columns wide at most. Needs no torch."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import replace

from rich import box
from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.table import Table
from rich.text import Text

from dropdrift.sharding.summary import PlanSummary
from dropdrift.training.comparison import Grid
from dropdrift.training.plans.views.grids import (
    MEMORY_NOTE,
    RANKS_SHOWN,
    TIMES_NOTE,
    by_size,
    headline,
    largest_tables,
    node_grid,
    rank_grid,
    table_grid,
)

WIDTH = 120
# Names are not shortened to less while there are columns to leave out.
NAME_WIDTH = 16
BAR_WIDTH = 10
FULL, EIGHTHS = "█", ("", "▏", "▎", "▍", "▌", "▋", "▊", "▉")
# Bars have no title.
TEXT_COLUMNS = ("Type", "Kernel", "Ranks", "")
# What narrow terminals are not shown, first one first.
OPTIONAL_COLUMNS = (
    "",
    "Precision",
    "Width",
    "Ids a row",
    "Kernel",
    "Node",
    "Shards",
    "of mean",
    "Ranks",
)


def plan_console() -> Console:
    """As wide as the terminal, but no wider than 120 columns, which also is what a pipe gets."""
    console = Console()
    return Console(width=min(console.width, WIDTH) if console.is_terminal else WIDTH)


def print_plan(
    name: str, summary: PlanSummary, *, all_tables: bool = False, console: Console | None = None
) -> None:
    """Print the plan of ``name``: what matters first, ranks, tables, and how to read them.

    Args:
        name: of the configuration that was planned.
        summary: the plan.
        all_tables: rather than those that take most memory or time.
        console: without one, :func:`plan_console`.
    """
    console = console or plan_console()
    console.print(Text(f"Plan of {printable(name)}\n", style="bold"))
    for line in _headlines(summary, console.width):
        console.print(line)
    many = len(summary.ranks) > RANKS_SHOWN
    print_fitted(node_grid(summary) if many else _ranks_with_bars(summary), console)
    shown, rest = (by_size(summary.tables), []) if all_tables else largest_tables(summary)
    print_fitted(table_grid(shown, rest), console)
    note = f"{TIMES_NOTE.format(hardware=summary.cluster.hardware)} {MEMORY_NOTE}"
    console.print(Text(f"\n{note}", style="dim"))


def print_fitted(grid: Grid, console: Console, optional: Sequence[str] = OPTIONAL_COLUMNS) -> None:
    """Print a grid no wider than the console.

    Long names in its first column are shortened in the middle. Where that leaves less than 16
    columns to them, those columns that ``optional`` names are left out, first one first.
    """
    columns = list(zip(grid.header, *grid.rows, strict=True))
    names, *others = ([printable(cell) for cell in column] for column in columns)
    least = min(NAME_WIDTH, _width(names))
    left_out = []
    for title in optional:
        if least + _width_of(others, 1) <= console.width:
            break
        left_out += [column[0] for column in others if column[0] == title]
        others = [column for column in others if column[0] != title]
    gap = 2 if _width(names) + _width_of(others, 2) <= console.width else 1
    for_names = max(console.width - _width_of(others, gap), 1)
    names = [shortened(name, for_names) for name in names]
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, gap - 1, 0, 0))
    for column in (names, *others):
        left = column is names or column[0] in TEXT_COLUMNS
        table.add_column(Text(column[0]), justify="left" if left else "right", no_wrap=True)
    for row in zip(names[1:], *(column[1:] for column in others), strict=True):
        table.add_row(*map(Text, row))
    titles = ", ".join(title for title in left_out if title)
    without = f" (too narrow for: {titles})" if titles else ""
    console.print(Text(f"\n{grid.title}{without}", style="bold"))
    console.print(table)


def bar(part: float, whole: float) -> str:
    """``part`` of ``whole`` as a bar, which is full where the part is more."""
    eighths = round(8 * BAR_WIDTH * min(part / whole, 1.0)) if whole > 0 else 0
    return FULL * (eighths // 8) + EIGHTHS[eighths % 8]


def printable(text: str) -> str:
    """``text`` without what would move the cursor."""
    return "".join(character if character.isprintable() else "?" for character in text)


def shortened(text: str, width: int) -> str:
    """``text`` in ``width`` columns, its middle left out where it has more."""
    if cell_len(text) <= width:
        return text
    before = width // 2
    after = width - before - 1
    end = set_cell_size(text[::-1], after)[::-1] if after else ""
    return f"{set_cell_size(text, before)}…{end}"


def _headlines(summary: PlanSummary, width: int) -> Iterator[Text]:
    lines = headline(summary)
    indent = max(len(title) for title, _ in lines) + 2
    for title, text in lines:
        wrapped = textwrap.fill(
            f"{title:<{indent}}{printable(text)}", width, subsequent_indent=" " * indent
        )
        line = Text(wrapped)
        line.stylize("bold", 0, len(title))
        yield line


def _ranks_with_bars(summary: PlanSummary) -> Grid:
    """Memory against what is available, and time against the slowest rank's, as bars."""
    grid = rank_grid(summary)
    memory = grid.header.index("of available") + 1
    rows = (
        (
            *row[:memory],
            bar(rank.device_bytes, summary.available_bytes),
            *row[memory:],
            bar(rank.cost.total, summary.step_ms),
        )
        for rank, row in zip(summary.ranks, grid.rows, strict=True)
    )
    header = (*grid.header[:memory], "", *grid.header[memory:], "")
    return replace(grid, header=header, rows=tuple(rows))


def _width(column: Sequence[str]) -> int:
    return max(map(cell_len, column))


def _width_of(columns: Sequence[Sequence[str]], gap: int) -> int:
    """Of columns that stand right of others."""
    return sum(_width(column) + gap for column in columns)

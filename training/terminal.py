"""Grids of text on the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from dropdrift.training.comparison import Grid


def print_grid(grid: Grid, console: Console) -> None:
    """Print it wide, or with numbers and their spread on two lines where the console is narrow.

    A number is never cut: a table that is too wide even so overflows.
    """
    columns = list(zip(grid.header, *grid.rows, strict=True))
    gap = 2
    if _width(columns, gap) > console.width:
        columns[1:] = [tuple(c.replace(" ", "\n", 1) for c in cells) for cells in columns[1:]]
        gap = 1
    table = Table(
        box=box.SIMPLE_HEAD,
        show_edge=False,
        pad_edge=False,
        padding=(0, gap - 1, 0, 0),
        width=_width(columns, gap),
    )
    for index, cells in enumerate(columns):
        table.add_column(Text(cells[0]), justify="right" if index else "left", no_wrap=True)
    for row in zip(*(cells[1:] for cells in columns), strict=True):
        table.add_row(*map(Text, row))
    console.print(Text(grid.title, style="bold"))
    console.print(table, crop=False)
    console.print(Text(f"{grid.note}\n", style="dim"))


def _width(columns: Sequence[Sequence[str]], gap: int) -> int:
    longest = (max(len(line) for cell in cells for line in cell.split("\n")) for cells in columns)
    return sum(longest) + gap * (len(columns) - 1)

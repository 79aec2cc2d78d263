"""A progress bar that counts rows: rows per second and time left."""

from __future__ import annotations

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Column
from rich.text import Text


def progress_bar(shown: bool) -> Progress:
    """A bar whose tasks count rows, on standard error; invisible unless ``shown``."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        _RowsColumn(table_column=Column(no_wrap=True)),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        disable=not shown,
    )


class _RowsColumn(ProgressColumn):
    """Rows, and rows per second over the last half minute: a run may begin in the middle."""

    def render(self, task: Task) -> Text:
        """The column's text for one task."""
        speed = task.finished_speed or task.speed
        rate = "-" if speed is None else f"{speed:,.0f}"
        return Text(f"{task.completed:,.0f} rows, {rate} rows/s")

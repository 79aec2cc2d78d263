"""A progress bar: what is done, how much of it a second, and the time left."""

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


def progress_bar(shown: bool, unit: str = "rows") -> Progress:
    """A bar whose tasks count ``unit``, on standard error; invisible unless ``shown``."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        _RateColumn(unit),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        disable=not shown,
    )


class _RateColumn(ProgressColumn):
    """What is done, and how much a second over the last half minute: a run may begin midway."""

    def __init__(self, unit: str) -> None:
        super().__init__(Column(no_wrap=True))
        self.unit = unit

    def render(self, task: Task) -> Text:
        """The column's text for one task."""
        speed = task.finished_speed or task.speed
        # Few a second are told with what is behind the point.
        rate = "-" if speed is None else f"{speed:,.{0 if speed >= 10 else 1}f}"
        return Text(f"{task.completed:,.0f} {self.unit}, {rate} {self.unit}/s")

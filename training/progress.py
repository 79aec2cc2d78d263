"""Progress of long work on the terminal, with rows per second and the time left."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from dropdrift.data.batch import Batch


class RateColumn(ProgressColumn):
    """Rows per second, over the last half minute."""

    def render(self, task: Task) -> Text:
        """The rate, or a dash before there is one."""
        speed = task.finished_speed or task.speed
        return Text("- rows/s" if speed is None else f"{speed:,.0f} rows/s")


def progress_bar(enabled: bool) -> Progress:
    """A bar that counts rows, on standard error; invisible unless ``enabled``."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        RateColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        disable=not enabled,
    )


def track_batches(
    progress: Progress, batches: Iterable[Batch], count: int, world_size: int
) -> Iterator[Batch]:
    """Pass ``batches`` on and count the rows of all ranks, assuming that all have as many."""
    task = progress.add_task("score", total=None)
    for batch in batches:
        progress.update(task, total=count * batch.rows * world_size)
        yield batch
        progress.update(task, advance=batch.rows * world_size)

"""One bar over the runs of an experiment: what is running, what is left, what has failed."""

from __future__ import annotations

import time
from datetime import timedelta
from types import TracebackType

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn
from rich.text import Text

from dropdrift.training.experiments.runs import Run


class ExperimentProgress:
    """A :class:`~dropdrift.training.experiments.pool.Watcher` on standard error.

    Args:
        runs: how many there are.
        jobs: how many run at once.
        shown: whether there is anything to see.

    Attributes:
        failures: why runs failed, by their titles.
    """

    def __init__(self, runs: int, jobs: int, shown: bool) -> None:
        self.failures: dict[str, str] = {}
        self._running: dict[str, None] = {}
        self._progress = Progress(
            MofNCompleteColumn(),
            BarColumn(),
            _TimeLeftColumn(jobs),
            TextColumn("{task.description}"),
            console=Console(stderr=True),
            disable=not shown,
        )
        self._task = self._progress.add_task("", total=runs, seconds=0.0, ended=0.0)

    def started(self, run: Run) -> None:
        """Name the run beside the bar."""
        self._running[run.title] = None
        self._describe()

    def ended(self, run: Run, seconds: float, failure: str) -> None:
        """Move on; a line tells of the run."""
        del self._running[run.title]
        if failure:
            self.failures[run.title] = failure
        what = f"failed: {failure} ({run.log})" if failure else f"{seconds:.0f} s"
        self._progress.console.print(
            f"{escape(run.title)}: {escape(what)}", highlight=False, soft_wrap=True
        )
        task = self._progress.tasks[0]
        self._progress.update(
            self._task,
            advance=1,
            seconds=task.fields["seconds"] + seconds,
            ended=time.monotonic(),
        )
        self._describe()

    def _describe(self) -> None:
        self._progress.update(self._task, description=escape("; ".join(self._running)))

    def __enter__(self) -> ExperimentProgress:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._progress.stop()


class _TimeLeftColumn(ProgressColumn):
    """Time left, if the runs to come take as long as the ones before."""

    def __init__(self, jobs: int) -> None:
        super().__init__()
        self._jobs = jobs

    def render(self, task: Task) -> Text:
        """The time left, from the mean of the runs that have ended."""
        if not task.completed or task.remaining is None:
            return Text("time left: -")
        each = task.fields["seconds"] / task.completed
        left = each * task.remaining / self._jobs - (time.monotonic() - task.fields["ended"])
        return Text(f"time left: {timedelta(seconds=max(0, round(left)))}")

"""``dropdrift plan sweep``: the smallest cluster that fits, and what more would bring."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.text import Text

from dropdrift.data.progress import progress_bar
from dropdrift.launchers.plan.output import check_outputs, write_json
from dropdrift.launchers.plan.target import read_target
from dropdrift.training.plans.config import SweepConfig

if TYPE_CHECKING:
    from dropdrift.training.plans.sweeps.sweep import Progress, Sweep


def run(arguments: list[str]) -> int:
    """Plan for many clusters and batches, and compare the plans.

    Raises:
        ValueError: no cluster fits, which is said after all else.
    """
    target = read_target(
        SweepConfig,
        arguments,
        prog="dropdrift plan sweep",
        description="Plan a model for many clusters and batches: the smallest cluster that fits, "
        "and those that are worth their GPUs.",
    )
    from dropdrift.training.plans.sweeps.sweep import run_sweep, sweep_document
    from dropdrift.training.provenance import provenance

    config = target.config
    check_outputs(config.json, config.html, config.plot)
    with _progress(sys.stderr.isatty()) as progress:
        sweep = run_sweep(config, target.schema, target.items, progress)
    origin = provenance(config)
    _write_pictures(target.name, sweep, config, origin)
    if not write_json(sweep_document(target.name, sweep, origin), config.json):
        print_sweep(target.name, sweep, config)
        for path in (config.json, config.html, config.plot):
            if path is not None:
                print(f"Written to {path}")
    _check_that_some_fit(sweep)
    return 0


def print_sweep(
    name: str, sweep: Sweep, config: SweepConfig, console: Console | None = None
) -> None:
    """Print the smallest clusters, all points, and how to read them."""
    from dropdrift.training.plans.sweeps.grids import OPTIONAL, notes, point_grids, smallest_grid
    from dropdrift.training.plans.views.terminal import plan_console, print_fitted, printable

    console = console or plan_console()
    console.print(Text(f"Sweep of {printable(name)}", style="bold"))
    for grid in (smallest_grid(sweep), *point_grids(sweep)):
        print_fitted(grid, console, OPTIONAL)
    for note in notes(sweep, config.limits):
        console.print(Text(f"\n{note}", style="dim"))


def _write_pictures(name: str, sweep: Sweep, config: SweepConfig, origin: dict[str, Any]) -> None:
    if config.html is not None:
        from dropdrift.training.plans.sweeps.page import write_page

        write_page(name, sweep, config.limits, origin, config.html)
    if config.plot is not None:
        from dropdrift.training.plans.sweeps.plots import write_plot

        write_plot(sweep, config.plot)


def _check_that_some_fit(sweep: Sweep) -> None:
    if any(smallest.found for smallest in sweep.smallest):
        return
    first = sweep.smallest[0]
    assert first.smaller is not None, "the largest cluster was tried"
    hardware = ", ".join(dict.fromkeys(smallest.hardware for smallest in sweep.smallest))
    raise ValueError(
        f"no cluster of {hardware} fits, up to {first.most.cluster} GPUs; on {first.hardware}, "
        f"{first.smaller.point.cluster}: {first.smaller.reason}"
    )


@contextmanager
def _progress(shown: bool) -> Iterator[Progress]:
    """A bar that is told how many plans are made, of how many."""
    with progress_bar(shown, "plans") as bar:
        task = bar.add_task("Planning", total=None)
        yield lambda done, known: bar.update(task, completed=done, total=known)

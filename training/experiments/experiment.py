"""An experiment from its plan to its report."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.text import Text

from dropdrift.data.schema import Schema
from dropdrift.training.config import TrainConfig
from dropdrift.training.data_record import check_data_record, write_data_record
from dropdrift.training.experiments.course import Course, read_course
from dropdrift.training.experiments.drift import Similarity, noise_schedule
from dropdrift.training.experiments.measures import Measured, Measures
from dropdrift.training.experiments.plan import Plan
from dropdrift.training.experiments.pool import run_jobs
from dropdrift.training.experiments.progress import ExperimentProgress
from dropdrift.training.experiments.report import grids, write_reports
from dropdrift.training.experiments.runs import Run, check_may_go_on, is_diffusing, perform
from dropdrift.training.experiments.summary import Outcome, Summary, summarise
from dropdrift.training.experiments.tables import TIMES, warning_lines
from dropdrift.training.provenance import provenance
from dropdrift.training.run_folder import RunFolder
from dropdrift.training.terminal import print_grid


def run_experiment(
    plan: Plan,
    runs: Sequence[Run],
    measures: Measures,
    *,
    perform: Callable[[Run], None] = perform,
    wanted: Sequence[str],
    data: Path,
    out: Path,
    jobs: int,
    show_progress: bool = True,
    console: Console | None = None,
) -> Summary:
    """Carry out what is not done yet, print the tables and write the reports.

    Args:
        plan: the plan.
        runs: all of its runs.
        measures: the metrics that the plan names.
        perform: trains and evaluates one run; a function of a module, see ``pool``.
        wanted: rows to run now; the others are reported as far as they are there.
        data: folder of the prepared data.
        out: folder of the experiment.
        jobs: processes.
        show_progress: whether there is a progress bar.
        console: where the tables are printed; none: the standard output.

    Raises:
        ValueError: a folder holds another run, or results are of different data.
    """
    schema = Schema.load(data)
    # Of the runs each has a record of its own; what a baseline has counted has none.
    check_data_record(out, data, schema.kind)
    here = [run for run in runs if run.row in wanted]
    base = _base_config(plan, runs)
    for run in runs:
        # What is only reported must be what the plan says, too.
        if run.row in wanted or run.is_evaluated():
            _check(run, base, schema, measures)
    write_data_record(out, data, schema.kind, test=True)
    left = [run for run in here if not run.is_done()]
    failures = _carry_out(left, perform, jobs, show_progress)
    rows = _rows(runs, failures, measures)
    summary = summarise(plan, rows, measures, _curve_title(runs, measures))
    if "schedules" in plan.figures:
        summary = dataclasses.replace(summary, schedules=_schedules(runs))
    console = console or Console()
    for grid in grids(summary):
        print_grid(grid, console)
    for line in warning_lines(summary):
        console.print(Text(line), soft_wrap=True)
    origin = provenance({"plan": plan, "jobs": jobs, "base": base})
    # The folder's own name, not where it lies.
    facts = {"Data": f"{schema.name} ({data.name})"}
    facts |= measures.data_facts(base, schema)
    write_reports(summary, facts, origin, out)
    return summary


def _check(run: Run, base: TrainConfig, schema: Schema, measures: Measures) -> None:
    """ValueError where the run may not go on, or cannot be compared."""
    check_may_go_on(run, schema)
    try:
        measures.check(run.config, base, schema)
    except ValueError as error:
        raise ValueError(f"{run.row!r}: {error}") from error


def _carry_out(
    runs: Sequence[Run], perform: Callable[[Run], None], jobs: int, show_progress: bool
) -> dict[str, str]:
    """Why runs have failed, by their titles."""
    if not runs:
        return {}
    with ExperimentProgress(len(runs), jobs, show_progress) as progress:
        run_jobs(runs, perform, min(jobs, len(runs)), progress)
        return progress.failures


def _rows(
    runs: Sequence[Run], failures: Mapping[str, str], measures: Measures
) -> dict[str, list[Outcome]]:
    """What has been measured, and what has failed now."""
    rows: dict[str, list[Outcome]] = {}
    for run in runs:
        if run.title in failures or run.is_evaluated():
            for row, outcome in _outcomes(run, failures.get(run.title, ""), measures).items():
                rows.setdefault(row, []).append(outcome)
    return rows


def _outcomes(run: Run, failure: str, measures: Measures) -> dict[str, Outcome]:
    """By row: the run's own first, and what its evaluation has measured besides."""
    training: dict[str, float] = {}
    folder = RunFolder(run.folder)
    course = Course() if run.baseline else read_course(folder.log_file, run.config.chosen_by)
    if failure:
        return {run.row: Outcome(run.seed, failure=failure, curve=course.validation)}
    if folder.is_complete():
        training = _times(folder)
    outcomes = {
        run.row + suffix: Outcome(
            run.seed,
            found.numbers,
            collapse=found.collapse,
            users=found.users,
            evaluation=found.evaluation,
        )
        for suffix, found in _measured(run, course, measures).items()
    }
    own = dataclasses.replace(
        outcomes[run.row],
        training=training,
        curve=course.validation,
        z_variance=course.last.get("z_variance"),
    )
    if run.similarity and run.similarity_file.is_file():
        own = dataclasses.replace(own, similarity=Similarity.load(run.similarity_file))
    return outcomes | {run.row: own}


def _times(folder: RunFolder) -> dict[str, float]:
    outcome = folder.outcome()
    try:
        return {key: float(outcome[key]) for key in TIMES}
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{folder.result_file} is damaged: remove {folder.path}, and the run is made again"
        ) from error


def _measured(run: Run, course: Course, measures: Measures) -> dict[str, Measured]:
    try:
        return measures.measured(run.result_file, course.last)
    except ValueError as error:
        again = f"remove {run.result_file}, and the run is evaluated again"
        raise ValueError(f"{error}: {again}") from error


def _schedules(runs: Sequence[Run]) -> dict[str, tuple[float, ...]]:
    """Of each distinct schedule the first variant that has it."""
    found: dict[tuple[float, ...], str] = {}
    for run in runs:
        if is_diffusing(run.config) and not run.baseline:
            found.setdefault(noise_schedule(run.config), run.row)
    return {row: schedule for schedule, row in found.items()}


def _curve_title(runs: Sequence[Run], measures: Measures) -> str:
    named = dict.fromkeys(run.config.chosen_by for run in runs if not run.baseline)
    return " or ".join(map(measures.curve_title, named))


def _base_config(plan: Plan, runs: Sequence[Run]) -> TrainConfig:
    config = next(run.config for run in runs if run.row == plan.base)
    return dataclasses.replace(config, out=config.out.parent)

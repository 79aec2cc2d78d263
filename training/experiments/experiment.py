"""An experiment from its plan to its report."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from dropdrift.data.interactions.protocol_statistics import protocol_statistics
from dropdrift.data.interactions.sequences import Sequences
from dropdrift.data.json_file import read_json
from dropdrift.data.preparing.statistics import STATISTICS_FILE
from dropdrift.data.schema import Schema
from dropdrift.training.config import TrainConfig
from dropdrift.training.data_record import check_data_record, write_data_record
from dropdrift.training.experiments.drift import Similarity, noise_schedule
from dropdrift.training.experiments.matching import (
    MatchingMeasures,
    metric_title,
    validation_curve,
)
from dropdrift.training.experiments.plan import Plan
from dropdrift.training.experiments.pool import run_jobs
from dropdrift.training.experiments.progress import ExperimentProgress
from dropdrift.training.experiments.report import grids, write_reports
from dropdrift.training.experiments.runs import Run, check_may_go_on, is_diffusing, perform
from dropdrift.training.experiments.summary import Outcome, Summary, summarise
from dropdrift.training.experiments.tables import TIMES, failure_lines
from dropdrift.training.provenance import provenance
from dropdrift.training.run_folder import RunFolder
from dropdrift.training.terminal import print_grid


def run_experiment(
    plan: Plan,
    runs: Sequence[Run],
    *,
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
        wanted: rows to run now; the others are reported as far as they are there.
        data: folder of the prepared data.
        out: folder of the experiment.
        jobs: processes.
        show_progress: whether there is a progress bar.
        console: where the tables are printed; none: the standard output.

    Raises:
        ValueError: a folder holds another run, or results are of different data.
    """
    measures = MatchingMeasures(plan)
    schema = Schema.load(data)
    # Of the runs each has a record of its own; what a baseline has counted has none.
    check_data_record(out, data, schema.kind)
    here = [run for run in runs if run.row in wanted]
    for run in here:
        check_may_go_on(run, schema)
    write_data_record(out, data, schema.kind)
    failures = _carry_out([run for run in here if not run.is_done()], jobs, show_progress)
    rows: dict[str, list[Outcome]] = {}
    for run in runs:
        if run.title in failures or run.is_evaluated():
            for row, outcome in _outcomes(run, failures.get(run.title, ""), measures).items():
                rows.setdefault(row, []).append(outcome)
    summary = summarise(plan, rows, measures.titles, _curve_title(runs))
    if "schedules" in plan.figures:
        summary = dataclasses.replace(summary, schedules=_schedules(runs))
    console = console or Console()
    for grid in grids(summary):
        print_grid(grid, console)
    for line in failure_lines(summary):
        console.print(Text(line), soft_wrap=True)
    origin = provenance({"plan": plan, "jobs": jobs, "base": _base_config(plan, runs)})
    facts = _data_facts(data, schema, _base_config(plan, runs))
    write_reports(summary, facts, origin, out)
    return summary


def _carry_out(runs: Sequence[Run], jobs: int, show_progress: bool) -> dict[str, str]:
    """Why runs have failed, by their titles."""
    if not runs:
        return {}
    with ExperimentProgress(len(runs), jobs, show_progress) as progress:
        run_jobs(runs, perform, min(jobs, len(runs)), progress)
        return progress.failures


def _outcomes(run: Run, failure: str, measures: MatchingMeasures) -> dict[str, Outcome]:
    """By row: the run's own, and one for each further weight of the transition counts."""
    training: dict[str, float] = {}
    curve: tuple[tuple[int, float], ...] = ()
    folder = RunFolder(run.folder)
    if not run.baseline:
        curve = validation_curve(folder.log_file, run.config.chosen_by)
    if failure:
        return {run.row: Outcome(run.seed, failure=failure, curve=curve)}
    if folder.is_complete():
        outcome = read_json(folder.result_file)
        training = {key: outcome[key] for key in TIMES}
    numbers, users = measures.numbers(run.result_file), measures.users(run.result_file)
    first = next(iter(numbers))
    own = Outcome(run.seed, numbers[first], "", users.get(first), training, curve)
    if run.similarity and run.similarity_file.is_file():
        own = dataclasses.replace(own, similarity=Similarity.load(run.similarity_file))
    outcomes = {run.row: own}
    for weight, found in list(numbers.items())[1:]:
        outcomes[f"{run.row} + {weight:g} transitions"] = Outcome(
            run.seed, found, users=users.get(weight)
        )
    return outcomes


def _schedules(runs: Sequence[Run]) -> dict[str, tuple[float, ...]]:
    """Of each distinct schedule the first variant that has it."""
    found: dict[tuple[float, ...], str] = {}
    for run in runs:
        if is_diffusing(run.config) and not run.baseline:
            found.setdefault(noise_schedule(run.config), run.row)
    return {row: schedule for schedule, row in found.items()}


def _curve_title(runs: Sequence[Run]) -> str:
    named = dict.fromkeys(run.config.chosen_by for run in runs if not run.baseline)
    return " or ".join(map(metric_title, named))


def _base_config(plan: Plan, runs: Sequence[Run]) -> TrainConfig:
    config = next(run.config for run in runs if run.row == plan.base)
    return dataclasses.replace(config, out=config.out.parent)


def _data_facts(data: Path, schema: Schema, config: TrainConfig) -> dict[str, Any]:
    """Name and counts of the data, and of what the protocol makes of it, with the first seed.

    The folder's own name, not where it lies.
    """
    facts: dict[str, Any] = {"Data": f"{schema.name} ({data.name})"}
    path = data / STATISTICS_FILE
    if path.is_file():
        counts = read_json(path)
        for key in ("users", "items", "interactions"):
            if isinstance(counts, dict) and isinstance(counts.get(key), int):
                facts[key.capitalize()] = counts[key]
    sequence = config.data.sequence
    sequences = Sequences.load(data, schema, sequence.order, sequence.min_interactions)
    counted = protocol_statistics(sequences, sequence, config.loop.seed)
    for key, number in dataclasses.asdict(counted).items():
        facts[f"{key.capitalize()} in the protocol"] = number
    return facts

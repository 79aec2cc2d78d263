"""Evaluation of a trained run: metrics on complete rows and with features dropped."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from pathlib import Path

from rich.progress import Progress
from torchrec.distributed import DistributedModelParallel

from dropdrift.data.batch import Batch
from dropdrift.data.loading.loader import Cursor, Loader
from dropdrift.data.progress import progress_bar
from dropdrift.data.schema import Schema
from dropdrift.models.ranking import task_names
from dropdrift.training.build import build_model, ranking_model
from dropdrift.training.checkpoint import load_weights
from dropdrift.training.comparison import NOTHING
from dropdrift.training.config import EvaluateConfig, TrainConfig
from dropdrift.training.distributed import Ranks, on_first_rank, process_group
from dropdrift.training.metrics import calibration_table, ranking_metrics
from dropdrift.training.preflight.check import check_ranks
from dropdrift.training.preflight.config import PreflightConfig
from dropdrift.training.provenance import provenance
from dropdrift.training.result import EvaluationResult, RobustnessPoint, TaskResult
from dropdrift.training.run_folder import RunFolder
from dropdrift.training.scenarios import COMPLETE, Scenario, robustness_scenarios
from dropdrift.training.score_file import ScoredRows, scores_path, write_scores
from dropdrift.training.scoring import Scores, score_batches


def evaluate(
    options: EvaluateConfig, config: TrainConfig, *, show_progress: bool = True
) -> EvaluationResult | None:
    """Evaluate the best checkpoint of a run, on one rank or many.

    The scores that ``options`` may ask for are written here, beside where the result goes.

    Args:
        options: run, part and scenarios.
        config: what the run was trained with.
        show_progress: whether the first rank shows a progress bar.

    Returns:
        The result on the first rank, None on the others.

    Raises:
        ValueError: no checkpoint, data of another schema, or labels of one class alone.
    """
    schema = Schema.load(options.run_folder)
    data = prepared_data(options.data, config, schema)
    with process_group(config.loop.timeout) as ranks:
        check_ranks_of_evaluation(ranks, options)
        loading = dataclasses.replace(config.data, batch_size=options.batch_size)
        loader = Loader(
            data,
            options.part,
            schema,
            loading,
            rank=ranks.rank,
            world_size=ranks.world_size,
            training=False,
        )
        for task in task_names(schema, config.model):
            loader.check_label(task)
        model = restore_model(RunFolder(options.run_folder), schema, config, ranks)
        scenarios = [COMPLETE, *(robustness_scenarios(schema) if options.robustness else ())]
        with progress_bar(show_progress and ranks.is_first) as progress:
            batches = _tracked(
                progress, loader.batches(Cursor()), loader.steps_per_epoch, ranks.world_size
            )
            scores = score_batches(model, batches, scenarios, ranks, options.seed)
        if scores is None:
            return None
        tasks = ranking_model(model).tasks
        result = EvaluationResult(
            name=options.name or options.run_folder.resolve().name,
            part=options.part,
            tasks=_task_results(tasks, schema, scores, scenarios, options),
            missing_rate={
                name: int(count) / len(scores.users)
                for name, count in zip(schema.field_names, scores.missing, strict=True)
            },
            provenance=provenance({"evaluation": options, "training": config}, config.loop.seed),
        )
        if options.scores:
            rows = _scored_rows(tasks, scores, scenarios)
            write_scores(scores_path(options.result_file), rows)
        return result


def check_ranks_of_evaluation(ranks: Ranks, options: EvaluateConfig) -> None:
    """The check of all ranks, if ``options`` ask for it, written beside the result.

    Raises:
        ValueError: what :func:`check_ranks` finds.
    """
    if options.preflight:
        report = check_ranks(ranks, PreflightConfig())
        path = options.result_file.with_name(f"preflight-{options.part}.json")
        on_first_rank(lambda: report.save(path))


def restore_model(
    run: RunFolder, schema: Schema, config: TrainConfig, ranks: Ranks
) -> DistributedModelParallel:
    """The model of a run's best checkpoint, on any ranks.

    Raises:
        ValueError: there is none, it is damaged, or it is not of this schema or configuration.
    """
    step = on_first_rank(lambda: run.best_step(schema))
    model = build_model(schema, config, ranks)
    load_weights(run.checkpoints, step, model)
    return model


def prepared_data(given: Path | None, config: TrainConfig, schema: Schema) -> Path:
    """The folder ``given``, or that of the training, which must be of the run's ``schema``.

    Raises:
        ValueError: it is not there, or of another schema.
    """
    data = given or config.data.path
    if not data.is_dir():
        raise ValueError(f"{data} is not there: give --data, the folder of the prepared data")
    check_same_schema(schema, data)
    return data


def check_same_schema(schema: Schema, data: Path) -> None:
    """Refuse prepared data that a model was not trained for; ValueError naming what differs."""
    other = Schema.load(data)
    if schema.fingerprint() == other.fingerprint():
        return
    mistake = f"{data} is not what the model was trained for: it differs in"
    for what in ("fields", "tables", "labels"):
        theirs = getattr(other, what)
        for item in getattr(schema, what):
            if item not in theirs:
                raise ValueError(f"{mistake} {what[:-1]} {getattr(item, 'name', item)!r}")
    for what in ("name", "has_user", "has_time"):
        if getattr(schema, what) != getattr(other, what):
            raise ValueError(
                f"{mistake} {what}, which is {getattr(other, what)!r} and should be "
                f"{getattr(schema, what)!r}"
            )
    raise ValueError(f"{mistake} the order of fields, tables or labels, or has more of them")


def _tracked(
    progress: Progress, batches: Iterable[Batch], count: int, world_size: int
) -> Iterator[Batch]:
    """Pass ``batches`` on and count the rows of all ranks, assuming that all have as many."""
    task = progress.add_task("score", total=None)
    for batch in batches:
        progress.update(task, total=count * batch.rows * world_size)
        yield batch
        progress.update(task, advance=batch.rows * world_size)


def _task_results(
    tasks: tuple[str, ...],
    schema: Schema,
    scores: Scores,
    scenarios: list[Scenario],
    options: EvaluateConfig,
) -> dict[str, TaskResult]:
    results = {}
    users = scores.user_groups(schema)
    for column, task in enumerate(tasks):
        what = f"label {task!r} of the {options.part} part"
        labels = scores.labels[:, column]
        metrics = [
            ranking_metrics(logits[:, column], labels, users, what) for logits in scores.logits
        ]
        results[task] = TaskResult(
            complete=metrics[0],
            calibration_table=calibration_table(scores.logits[0, :, column], labels, what=what),
            robustness=tuple(
                RobustnessPoint(scenario.drop, scenario.value, metric)
                for scenario, metric in zip(scenarios[1:], metrics[1:], strict=True)
                if scenario.drop != "nothing"
            ),
        )
    return results


def _scored_rows(tasks: tuple[str, ...], scores: Scores, scenarios: list[Scenario]) -> ScoredRows:
    drops = [NOTHING if s.drop == "nothing" else (s.drop, s.value) for s in scenarios]
    return ScoredRows(
        users=scores.users,
        labels={task: scores.labels[:, column] for column, task in enumerate(tasks)},
        logits={
            (task, drop): scores.logits[number, :, column]
            for column, task in enumerate(tasks)
            for number, drop in enumerate(drops)
        },
    )

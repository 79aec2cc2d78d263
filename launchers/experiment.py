"""``dropdrift experiment``: variants by seeds, trained, compared and reported by one command."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dropdrift.data.schema import SCHEMA_FILE, Schema
from dropdrift.launchers.config_file import assemble, read_options
from dropdrift.launchers.experiment_plans import find_plan, plan_names, plan_of, usual_metrics
from dropdrift.launchers.experiment_runs import resolve
from dropdrift.launchers.options import find_recipe, parse_config
from dropdrift.training.config import TrainConfig
from dropdrift.training.experiments.plan import Plan, load_plan


@dataclass(frozen=True)
class ExperimentOptions:
    """What to compare, and on what.

    Attributes:
        data: Folder made by 'dropdrift prepare'.
        out: Folder for runs and reports; what is complete in it is not run again, what was stopped
            goes on.
        plan: Name of a plan that comes with Dropdrift (listed above), or a YAML file.
        recipes: Instead of a plan: recipes to compare, names or YAML files; the first one is the
            base.
        metrics: What is shown of recipes, such as auc, uauc@50%, auc@user, is_like/auc or hr@10;
            none: what is usual.
        seeds: How many seeds each variant is trained with, from 1 on; differences are paired by
            them.
        jobs: Runs at a time, each on its share of the cores.
        ranks: Processes that train and evaluate each run, on this machine.
        only: Train these variants or baselines alone; others are reported where they are there.
    """

    data: Path
    out: Path
    plan: str | None = None
    recipes: tuple[str, ...] = ()
    metrics: tuple[str, ...] = ()
    seeds: int = 3
    jobs: int = 1
    ranks: int = 1
    only: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if (self.plan is None) == (not self.recipes):
            raise ValueError("give either --plan or --recipes")
        if self.metrics and not self.recipes:
            raise ValueError("--metrics goes with --recipes: a plan names its own")
        if self.seeds < 2:
            raise ValueError(f"--seeds is {self.seeds}, which shows no spread: give at least 2")
        for name in ("jobs", "ranks"):
            if getattr(self, name) < 1:
                raise ValueError(f"--{name} is {getattr(self, name)}, must be positive")


def run(arguments: list[str]) -> int:
    """Carry out the plan; 2 if all runs failed."""
    options = parse_config(
        ExperimentOptions,
        arguments,
        prog="dropdrift experiment",
        description="Train every variant of a plan, or every recipe, with every seed, evaluate "
        f"each on the test part, and compare. Plans: {', '.join(plan_names())}; or a YAML file.",
    )
    _check_folder(options.out)
    plan, source = _plan(options)
    wanted = plan.only(options.only)
    try:
        runs, measures = resolve(plan, options.data, options.out, options.seeds)
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from error
    from dropdrift.launchers.experiment_ranks import check_ranks, performer
    from dropdrift.training.experiments.experiment import run_experiment
    from dropdrift.training.experiments.report import PAGE
    from dropdrift.training.provenance import check_writable

    check_ranks([run for run in runs if run.row in wanted], options.ranks)
    check_writable(options.out / PAGE)
    summary = run_experiment(
        plan,
        runs,
        measures,
        perform=performer(options.jobs, options.ranks),
        wanted=wanted,
        data=options.data,
        out=options.out,
        jobs=options.jobs,
    )
    print(f"Written to {options.out / PAGE}")
    trained = [o for row in plan.variants for o in summary.rows.get(row, ())]
    if trained and all(outcome.failure for outcome in trained):
        raise ValueError(f"all runs failed; the last one: {trained[-1].failure}")
    return 0


def _check_folder(out: Path) -> None:
    """ValueError where it cannot be an experiment's."""
    if out.exists() and not out.is_dir():
        raise ValueError(f"--out is {out}, which is no folder: name one")
    if (out / SCHEMA_FILE).is_file():
        raise ValueError(
            f"--out is {out}, which holds {SCHEMA_FILE}, as data and runs do: name a folder of its "
            "own for the experiment"
        )


def _plan(options: ExperimentOptions) -> tuple[Plan, str]:
    """What to compare, and what it came from."""
    if options.plan is not None:
        path = find_plan(options.plan)
        return load_plan(path), str(path)
    schema = Schema.load(options.data)
    plan = plan_of(options.recipes, options.metrics or usual_metrics(schema))
    recipe = read_options(TrainConfig, find_recipe(plan.recipe))
    assemble(TrainConfig, {**recipe, "data.path": options.data}).check_kind_of(schema)
    return plan, "--recipes"

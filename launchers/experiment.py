"""``dropdrift experiment``: variants by seeds, trained, compared and reported by one command."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dropdrift.data.typed_mapping import suggestion
from dropdrift.launchers.config_file import assemble, convert, options_of, read_options
from dropdrift.launchers.options import find_recipe, parse_config
from dropdrift.training.config import MAX_SEED, EvaluateConfig, TrainConfig
from dropdrift.training.experiments.plan import Plan, Variant, load_plan

if TYPE_CHECKING:
    from dropdrift.training.experiments.runs import Run

_PLANS = Path(str(files("dropdrift.launchers"))) / "experiments"

# What the experiment itself decides for each run.
_OWN_OPTIONS = ("out", "resume", "data.path", "loop.seed")
_OWN_EVALUATION = ("run_folder", "data", "out", "name", "part")


@dataclass(frozen=True)
class ExperimentOptions:
    """What to compare, and on what.

    Attributes:
        plan: Name of a plan that comes with Dropdrift (listed above), or a YAML file.
        data: Folder made by 'dropdrift prepare'.
        out: Folder for runs and reports; what is complete in it is not run again, what was stopped
            goes on.
        seeds: Seeds that each variant is trained with; differences are paired by them.
        jobs: Runs at a time, each on its share of the cores.
        only: Train these variants or baselines alone; others are reported where they are there.
    """

    plan: str
    data: Path
    out: Path
    seeds: tuple[int, ...] = (1, 2, 3)
    jobs: int = 1
    only: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if len(set(self.seeds)) < 2:
            raise ValueError(
                f"--seeds names {len(set(self.seeds))}, which shows no spread: give at least 2"
            )
        for seed in self.seeds:
            if not 0 <= seed <= MAX_SEED:
                raise ValueError(f"--seeds has {seed}, must be between 0 and {MAX_SEED}")
            if self.seeds.count(seed) > 1:
                raise ValueError(f"--seeds has {seed} {self.seeds.count(seed)} times")
        if self.jobs < 1:
            raise ValueError(f"--jobs is {self.jobs}, must be positive")


def run(arguments: list[str]) -> int:
    """Carry out the plan; 2 if all runs failed."""
    options = parse_config(
        ExperimentOptions,
        arguments,
        prog="dropdrift experiment",
        description="Train every variant of a plan with every seed, evaluate each on the test "
        f"part, and compare. Plans: {', '.join(plan_names())}; or a YAML file.",
    )
    path = _find_plan(options.plan)
    plan = load_plan(path)
    wanted = plan.only(options.only)
    try:
        runs = resolve(plan, options)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    from dropdrift.training.experiments.experiment import run_experiment
    from dropdrift.training.experiments.report import PAGE
    from dropdrift.training.provenance import check_writable

    check_writable(options.out / PAGE)
    summary = run_experiment(
        plan, runs, wanted=wanted, data=options.data, out=options.out, jobs=options.jobs
    )
    print(f"Written to {options.out / PAGE}")
    trained = [o for row in plan.variants for o in summary.rows.get(row, ())]
    if trained and all(outcome.failure for outcome in trained):
        raise ValueError(f"all runs failed; the last one: {trained[-1].failure}")
    return 0


def plan_names() -> list[str]:
    """The plans that come with Dropdrift."""
    return sorted(path.stem for path in _PLANS.glob("*.yaml"))


def resolve(plan: Plan, options: ExperimentOptions) -> list[Run]:
    """All runs of the plan, with all their options.

    Raises:
        ValueError: a recipe or an option is unknown or refused; the line names the variant.
    """
    from dropdrift.training.experiments.matching import MatchingMeasures

    evaluation = _evaluation(plan, MatchingMeasures(plan).list_lengths)
    runs: list[Run] = []
    for row in sorted(plan.rows, key=lambda row: row in plan.baselines):
        variant = plan.variants[plan.base if row in plan.baselines else row]
        try:
            values = _values(plan, variant)
            runs += [_run(row, seed, values, evaluation, plan, options) for seed in options.seeds]
        except ValueError as error:
            raise ValueError(f"variant {row!r}: {error}") from error
    return sorted(runs, key=lambda run: plan.rows.index(run.row))


def _values(plan: Plan, variant: Variant) -> dict[str, Any]:
    """The options of a variant by dotted name: recipe's, plan's, its own."""
    values = read_options(TrainConfig, find_recipe(variant.recipe or plan.recipe))
    for given in (plan.options, variant.options):
        values |= _converted(TrainConfig, given, _OWN_OPTIONS)
    return values


def _evaluation(plan: Plan, lengths: tuple[int, ...]) -> dict[str, Any]:
    try:
        given = _converted(EvaluateConfig, plan.evaluate, _OWN_EVALUATION)
    except ValueError as error:
        raise ValueError(f"evaluate: {error}") from error
    ks = given.get("ks", EvaluateConfig(Path()).ks)
    return {**given, "ks": tuple(sorted({*ks, *lengths}))}


def _converted(
    config_type: type[Any], given: Mapping[str, Any], reserved: tuple[str, ...]
) -> dict[str, Any]:
    known = options_of(config_type)
    values = {}
    for name, value in given.items():
        if name in reserved:
            raise ValueError(f"the option {name!r} is the experiment's own: leave it out")
        if name not in known:
            raise ValueError(f"unknown option {name!r}{suggestion(str(name), known, str)}")
        values[name] = convert(known[name], value, name)
    return values


def _run(
    row: str,
    seed: int,
    values: Mapping[str, Any],
    evaluation: Mapping[str, Any],
    plan: Plan,
    options: ExperimentOptions,
) -> Run:
    from dropdrift.training.experiments.runs import PART, Run, is_diffusing

    folder = options.out / "runs" / row / f"seed-{seed}"
    baseline = row in plan.baselines
    own = {"out": folder, "data.path": options.data, "loop.seed": seed}
    seeded = _converted(TrainConfig, dict.fromkeys(plan.seed_options, seed), _OWN_OPTIONS)
    config = assemble(TrainConfig, {**values, **seeded, **own})
    return Run(
        row=row,
        seed=seed,
        config=config,
        evaluation=assemble(
            EvaluateConfig,
            {**evaluation, "run_folder": folder, "data": options.data, "part": PART, "name": row},
        ),
        log=options.out / "logs" / f"{row}-seed-{seed}.log",
        baseline=baseline,
        similarity="similarity" in plan.figures and is_diffusing(config) and not baseline,
    )


def _find_plan(chosen: str) -> Path:
    names = plan_names()
    if chosen in names:
        return _PLANS / f"{chosen}.yaml"
    path = Path(chosen)
    if path.suffix in (".yaml", ".yml") or path.is_file():
        return path
    raise ValueError(
        f"unknown plan {chosen!r}{suggestion(chosen, names, str)}; there are: {', '.join(names)}; "
        "or give a YAML file"
    )

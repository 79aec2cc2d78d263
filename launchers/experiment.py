"""``dropdrift experiment``: variants by seeds, trained, compared and reported by one command."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dropdrift.data.typed_mapping import suggestion
from dropdrift.launchers.config_file import assemble, convert, options_of, read_options
from dropdrift.launchers.options import find_recipe, parse_config
from dropdrift.training.config import EvaluateConfig, TrainConfig
from dropdrift.training.experiments.plan import Plan, Variant, load_plan

if TYPE_CHECKING:
    from dropdrift.training.experiments.measures import Measures
    from dropdrift.training.experiments.runs import Run

_PLANS = Path(str(files("dropdrift.launchers"))) / "experiments"

# What the experiment itself decides for each run.
_OWN_OPTIONS = ("out", "resume", "data.path", "loop.seed")
_OWN_EVALUATION = ("run_folder", "data", "out", "name", "part")


# What is measured of recipes without a plan, by the kind of their models.
_METRICS = {
    "ranking": ("auc", "uauc", "log_loss", "auc@50%", "auc@user", "auc@item"),
    "matching": ("hr@10", "ndcg@10", "mrr@20"),
}


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
    plan, runs, measures = _read(options)
    wanted = plan.only(options.only)
    from dropdrift.launchers.experiment_ranks import check_ranks, perform_on_ranks
    from dropdrift.training.experiments.experiment import run_experiment
    from dropdrift.training.experiments.report import PAGE
    from dropdrift.training.experiments.runs import perform
    from dropdrift.training.provenance import check_writable

    check_ranks(runs, options.ranks)
    check_writable(options.out / PAGE)
    summary = run_experiment(
        plan,
        runs,
        measures,
        perform=perform if options.ranks == 1 else partial(perform_on_ranks, ranks=options.ranks),
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


def _read(options: ExperimentOptions) -> tuple[Plan, list[Run], Measures]:
    """The plan with its runs and metrics; ValueError naming the file, or the recipes."""
    if options.plan is None:
        plan, source = plan_of(options.recipes, options.metrics), "--recipes"
    else:
        path = _find_plan(options.plan)
        plan, source = load_plan(path), str(path)
    try:
        return plan, *resolve(plan, options)
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from error


def plan_of(recipes: tuple[str, ...], metrics: tuple[str, ...] = ()) -> Plan:
    """The plan that compares recipes, given apart or with commas between them.

    Raises:
        ValueError: a recipe is not there, two have one name, or there is one alone.
    """
    chosen = [name for text in recipes for name in text.split(",") if name]
    variants: dict[str, Variant] = {}
    for recipe in chosen:
        name = find_recipe(recipe).stem
        if name in variants:
            raise ValueError(f"--recipes has two that are called {name!r}")
        variants[name] = Variant(recipe=recipe)
    if len(variants) < 2:
        raise ValueError(f"--recipes names {len(variants)}: give at least 2, the first as the base")
    base, recipe = next(iter(variants)), chosen[0]
    kind = _kind(read_options(TrainConfig, find_recipe(recipe)))
    return Plan(
        title=" and ".join(variants) if len(variants) == 2 else ", ".join(variants),
        recipe=recipe,
        base=base,
        metrics=metrics or _METRICS[kind],
        variants=variants,
    )


def plan_names() -> list[str]:
    """The plans that come with Dropdrift."""
    return sorted(path.stem for path in _PLANS.glob("*.yaml"))


def resolve(plan: Plan, options: ExperimentOptions) -> tuple[list[Run], Measures]:
    """All runs of the plan, with all their options; and what is measured of them.

    Raises:
        ValueError: a recipe, an option or a metric is unknown or refused; the line names the
            variant.
    """
    values: dict[str, dict[str, Any]] = {}
    for row, variant in plan.variants.items():
        with _naming(row):
            values[row] = _values(plan, variant)
    _check_alike(plan, values)
    measures = _measures(plan, _kind(values[plan.base]))
    evaluation = _evaluation(plan, measures)
    runs: list[Run] = []
    for row in plan.rows:
        with _naming(row):
            own = values[plan.base if row in plan.baselines else row]
            seeds = range(1, options.seeds + 1)
            runs += [_run(row, seed, own, evaluation, plan, options) for seed in seeds]
    return runs, measures


@contextmanager
def _naming(row: str) -> Iterator[None]:
    """Name the variant in a ValueError."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"variant {row!r}: {error}") from error


def _kind(values: Mapping[str, Any]) -> str:
    """``ranking`` or ``matching``."""
    return "ranking" if values.get("model.kind", "ranking") == "ranking" else "matching"


def _check_alike(plan: Plan, values: Mapping[str, Mapping[str, Any]]) -> None:
    """ValueError where a variant learns something else than the base."""
    base = values[plan.base]
    for row, own in values.items():
        if _kind(own) != _kind(base):
            raise ValueError(
                f"variant {row!r} is of {_kind(own)} (model.kind) and the base {plan.base!r} of "
                f"{_kind(base)}: compare them apart"
            )
        label, first = (tuple(v.get("model.tasks", ()))[:1] for v in (own, base))
        if label != first:
            shown = " and ".join(
                repr(*found) if found else "the data's" for found in (label, first)
            )
            raise ValueError(
                f"variants {row!r} and {plan.base!r} have different first labels (model.tasks), "
                f"{shown}: what is compared is of the first"
            )


def _measures(plan: Plan, kind: str) -> Measures:
    if kind == "matching":
        from dropdrift.training.experiments.matching import MatchingMeasures

        return MatchingMeasures(plan)
    from dropdrift.training.experiments.ranking import RankingMeasures

    for key in ("baselines", "figures"):
        if getattr(plan, key):
            raise ValueError(f"{key} is of matching models, and {plan.base!r} ranks: leave it out")
    return RankingMeasures(plan)


def _values(plan: Plan, variant: Variant) -> dict[str, Any]:
    """The options of a variant by dotted name: recipe's, plan's, its own."""
    values = read_options(TrainConfig, find_recipe(variant.recipe or plan.recipe))
    for given in (plan.options, variant.options):
        values |= _converted(TrainConfig, given, _OWN_OPTIONS)
    return values


def _evaluation(plan: Plan, measures: Measures) -> dict[str, Any]:
    try:
        given = _converted(EvaluateConfig, plan.evaluate, _OWN_EVALUATION)
    except ValueError as error:
        raise ValueError(f"evaluate: {error}") from error
    return given | measures.evaluation_options(given)


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

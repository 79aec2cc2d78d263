"""From the plan of an experiment to its runs, with all their options."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dropdrift.data.typed_mapping import suggestion
from dropdrift.launchers.config_file import assemble, convert, options_of, read_options
from dropdrift.launchers.options import find_recipe
from dropdrift.training.config import EVALUATION_OF_MATCHING, EvaluateConfig, TrainConfig
from dropdrift.training.experiments.plan import Plan, Variant

if TYPE_CHECKING:
    from dropdrift.training.experiments.measures import Measures
    from dropdrift.training.experiments.runs import Run

# What the experiment itself decides for each run.
_OWN_OPTIONS = ("out", "resume", "data.path", "loop.seed")
_OWN_EVALUATION = ("run_folder", "data", "out", "name", "part", "robustness", "scores")


def resolve(plan: Plan, data: Path, out: Path, seeds: int) -> tuple[list[Run], Measures]:
    """All runs of the plan, with all their options; and what is measured of them.

    Args:
        plan: what to compare.
        data: folder of the prepared data.
        out: folder of the experiment.
        seeds: how many, from 1 on.

    Raises:
        ValueError: a recipe, an option or a metric is unknown or refused; the line names the
            variant.
    """
    values: dict[str, dict[str, Any]] = {}
    for row, variant in plan.variants.items():
        with _naming(row):
            values[row] = _values(plan, variant)
    _check_alike(plan, values)
    kind = _kind(values[plan.base])
    measures = _measures(plan, kind)
    evaluation = _evaluation(plan, kind, measures)
    runs: list[Run] = []
    for row in plan.rows:
        with _naming(row):
            own = values[plan.base if row in plan.baselines else row]
            made = (_run(row, s, own, evaluation, plan, data, out) for s in range(1, seeds + 1))
            runs.extend(made)
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
    """ValueError where a variant is of another kind of model than the base."""
    kind = _kind(values[plan.base])
    for row, own in values.items():
        if _kind(own) != kind:
            raise ValueError(
                f"variant {row!r} is of {_kind(own)} (model.kind) and the base {plan.base!r} of "
                f"{kind}: compare them apart"
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


def _evaluation(plan: Plan, kind: str, measures: Measures) -> dict[str, Any]:
    for name in plan.evaluate:
        if kind == "ranking" and str(name).split(".")[0] in EVALUATION_OF_MATCHING:
            raise ValueError(
                f"evaluate: {name} is of matching models, and {plan.base!r} ranks: leave it out"
            )
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
    data: Path,
    out: Path,
) -> Run:
    from dropdrift.training.experiments.runs import PART, Run, is_diffusing

    folder = out / "runs" / row / f"seed-{seed}"
    baseline = row in plan.baselines
    own = {"out": folder, "data.path": data, "loop.seed": seed}
    seeded = _converted(TrainConfig, dict.fromkeys(plan.seed_options, seed), _OWN_OPTIONS)
    config = assemble(TrainConfig, {**values, **seeded, **own})
    return Run(
        row=row,
        seed=seed,
        config=config,
        evaluation=assemble(
            EvaluateConfig,
            {**evaluation, "run_folder": folder, "data": data, "part": PART, "name": row},
        ),
        log=out / "logs" / f"{row}-seed-{seed}.log",
        baseline=baseline,
        similarity="similarity" in plan.figures and is_diffusing(config) and not baseline,
    )

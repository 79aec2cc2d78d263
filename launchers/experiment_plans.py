"""What an experiment is to compare: a plan by its name or file, or recipes."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from dropdrift.data.schema import Schema
from dropdrift.data.typed_mapping import suggestion
from dropdrift.launchers.options import find_recipe
from dropdrift.training.experiments.plan import Plan, Variant

_PLANS = Path(str(files("dropdrift.launchers"))) / "experiments"


def usual_metrics(schema: Schema) -> tuple[str, ...]:
    """What is shown of recipes unless it is said, as far as the data has it."""
    if schema.kind == "interactions":
        return ("hr@10", "ndcg@10", "mrr@20")
    groups = {field.group for field in schema.fields}
    sides = [side for side in ("user", "item") if len(groups) > 1 and side in groups]
    per_user = ("uauc",) if schema.has_user else ()
    return ("auc", *per_user, "log_loss", "auc@50%", *(f"auc@{side}" for side in sides))


def plan_of(recipes: tuple[str, ...], metrics: tuple[str, ...]) -> Plan:
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
    return Plan(
        title=" and ".join(variants) if len(variants) == 2 else ", ".join(variants),
        recipe=recipe,
        base=base,
        metrics=metrics,
        variants=variants,
    )


def plan_names() -> list[str]:
    """The plans that come with Dropdrift."""
    return sorted(path.stem for path in _PLANS.glob("*.yaml"))


def find_plan(chosen: str) -> Path:
    """The file of a plan that comes with Dropdrift, or a user's own; ValueError naming all."""
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

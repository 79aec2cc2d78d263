"""What an experiment is to compare: a plan by its name or file, or recipes."""

from __future__ import annotations

from pathlib import Path

from dropdrift.data.schema import Schema
from dropdrift.launchers.options import find_recipe
from dropdrift.launchers.shipped import ShippedFiles
from dropdrift.training.experiments.plan import Plan, Variant

_PLANS = ShippedFiles("experiments", "plan")


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
    return _PLANS.names()


def find_plan(chosen: str) -> Path:
    """The file of a plan that comes with Dropdrift, or a user's own; ValueError naming all."""
    return _PLANS.find(chosen)

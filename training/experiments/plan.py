"""The plan of an experiment, as its YAML file says it. Needs no torch.

```yaml
title: What the noise's schedule does
about: A sentence or two for the report.
recipe: t2diff-paper            # of every variant that names none
base: exponential               # the variant that the others are compared with
metrics: [recall@20, mrr@20]
options: {loop.epochs: 30}      # of every variant, by dotted name
variants:
  exponential: {}
  linear: {options: {model.t2diff.diffusion.schedule: linear}}
baselines: [popularity]
published: {linear: {recall@20: 0.27519}}
```
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from dropdrift.data.typed_mapping import build, suggestion
from dropdrift.data.yaml_file import read_yaml

Seen = Literal["included", "excluded"]
Baseline = Literal["popularity", "transitions"]
Extra = Literal["schedules", "similarity"]

# A variant's name is a folder's too.
_NAME = re.compile(r"[A-Za-z0-9][\w.+-]*")


@dataclass(frozen=True)
class Variant:
    """One model of the experiment.

    Attributes:
        recipe: its recipe; none: the plan's.
        options: options by dotted name, over the plan's.
        about: what it is, in a few words, for the report.
    """

    recipe: str | None = None
    options: dict[str, Any] = field(default_factory=dict)
    about: str = ""


@dataclass(frozen=True)
class Plan:
    """What is trained, and what is printed of it.

    Attributes:
        title: of the report.
        recipe: recipe of the variants that name none.
        base: the variant that the others are compared with.
        metrics: what is printed, by name: ``recall@20``, ``hr@10``, ``mrr@20``, ``ndcg@10``; with
            ``included/`` or ``excluded/`` in front where it is not as ``seen`` says.
        variants: by name, in the order of the tables.
        about: a sentence or two on the question.
        options: options of all variants, by dotted name.
        seen: whether items that a user has already had are ranked with the others.
        seed_options: options that take the seed's value too, such as the seed of a split.
        published: figures from elsewhere, by row and metric; shown beside the own ones.
        baselines: models without training, counted from the training part.
        evaluate: options of the evaluation, by dotted name.
        figures: further ones. ``schedules``: the noise of the variants that diffuse.
            ``similarity``: how near their estimates come to the drift in the reverse process.
    """

    title: str
    recipe: str
    base: str
    metrics: tuple[str, ...]
    variants: dict[str, Variant]
    about: str = ""
    options: dict[str, Any] = field(default_factory=dict)
    seen: Seen = "excluded"
    seed_options: tuple[str, ...] = ()
    published: dict[str, dict[str, float]] = field(default_factory=dict)
    baselines: tuple[Baseline, ...] = ()
    evaluate: dict[str, Any] = field(default_factory=dict)
    figures: tuple[Extra, ...] = ()

    def __post_init__(self) -> None:
        if not self.metrics:
            raise ValueError("metrics is empty: name what is to be printed, such as recall@20")
        for key in ("metrics", "baselines"):
            names = getattr(self, key)
            for name in names:
                if names.count(name) > 1:
                    raise ValueError(f"{key} names {name!r} more than once: name it once")
        for name in self.variants:
            if not _NAME.fullmatch(name):
                raise ValueError(
                    f"variant {name!r} cannot be the name of a folder: use letters, digits, . + - _"
                )
            if name in self.baselines:
                raise ValueError(f"variant {name!r} has the name of a baseline")
        if self.base not in self.variants:
            raise ValueError(
                f"base is {self.base!r}, must be one of the variants, {', '.join(self.variants)}"
                f"{suggestion(self.base, self.variants, str)}"
            )
        for row, numbers in self.published.items():
            for metric, value in numbers.items():
                if isinstance(value, bool) or not isinstance(value, (int, float)):
                    raise ValueError(f"published: {row}: {metric} is {value!r}, must be a number")

    @property
    def rows(self) -> tuple[str, ...]:
        """All that is measured: baselines and variants."""
        return (*self.baselines, *self.variants)

    def only(self, names: tuple[str, ...]) -> tuple[str, ...]:
        """The rows to run; ValueError where one of ``names`` is none. Empty: all."""
        for name in names:
            if name not in self.rows:
                raise ValueError(
                    f"--only names {name!r}, which the plan does not have"
                    f"{suggestion(name, self.rows, str)}; there are: {', '.join(self.rows)}"
                )
        return tuple(row for row in self.rows if not names or row in names)


def load_plan(path: Path) -> Plan:
    """Read the plan that the YAML file holds.

    Raises:
        ValueError: a key is unknown, missing or of the wrong type; the line names the file.
    """
    raw = read_yaml(path)
    try:
        return _plan(raw)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _plan(raw: Any) -> Plan:
    if not isinstance(raw, Mapping):
        raise ValueError("the file is no mapping, must be a plan")
    named = {**raw, "variants": _variants(raw.get("variants"))}
    for key in ("options", "evaluate", "published"):
        named[key] = named.get(key) or {}
    for row, numbers in named["published"].items() if isinstance(named["published"], dict) else ():
        if not isinstance(numbers, dict):
            raise ValueError(f"published: {row} is {numbers!r}, must be a mapping")
    return build(Plan, named, "the plan")


def _variants(raw: Any) -> dict[str, Variant]:
    if not isinstance(raw, Mapping) or not raw:
        raise ValueError("variants is empty, must be a mapping of names")
    variants = {}
    for name, entry in raw.items():
        variant = build(Variant, {} if entry is None else entry, f"variant {name!r}")
        variants[str(name)] = replace(variant, options=variant.options or {})
    return variants

"""Options of a plan changed, and written as the command line takes them. Needs no torch."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from dropdrift.sharding.config import CUT_BY_COLUMNS, ShardingConfig
from dropdrift.training.plans.config import PlanConfig

C = TypeVar("C", bound=PlanConfig)

# By dotted name, such as sharding.types: numbers, text, or tuples of text.
Options = Mapping[str, Any]


def changed(config: C, options: Options) -> C:
    """``config`` with other values of some options; ValueError as the options' own."""
    for name, value in options.items():
        section, _, last = name.rpartition(".")
        if section:
            inner = replace(getattr(config, section), **{last: value})
            config = replace(config, **{section: inner})
        else:
            config = replace(config, **{last: value})
    return config


def as_text(options: Options) -> str:
    """The options for the command line, quoted for a shell."""
    words: list[str] = []
    for name, value in options.items():
        words.append("--" + name.replace("_", "-"))
        words += [_word(item) for item in (value if isinstance(value, tuple) else (value,))]
    return shlex.join(words)


def more_types(config: ShardingConfig, added: Sequence[str], *, rules: bool) -> dict[str, Any]:
    """Sharding types besides those that ``config`` allows; nothing where all are allowed.

    Args:
        config: what is allowed.
        added: types to allow.
        rules: whether also to tables that have a rule.
    """
    options: dict[str, Any] = {"sharding.types": _joined(config.types, added)}
    if rules:
        options["sharding.tables"] = tuple(
            replace(rule, types=_joined(rule.types, added)).text for rule in config.rules
        )
    return _differing(config, options)


def more_kernels(config: ShardingConfig, added: Sequence[str]) -> dict[str, Any]:
    """Compute kernels besides those that ``config`` and its rules allow, for all tables."""
    return _differing(
        config,
        {
            "sharding.kernels": _joined(config.kernels, added),
            "sharding.tables": tuple(
                replace(rule, kernels=_joined(rule.kernels, added) if rule.kernels else ()).text
                for rule in config.rules
            ),
        },
    )


def without_columns(config: ShardingConfig) -> dict[str, Any]:
    """What ``config`` allows without types that cut columns; rows where nothing else is left."""
    return _differing(
        config,
        {
            "sharding.types": _uncut(config.types),
            "sharding.tables": tuple(
                replace(rule, types=_uncut(rule.types)).text for rule in config.rules
            ),
        },
    )


def _differing(config: ShardingConfig, options: Mapping[str, Any]) -> dict[str, Any]:
    def present(name: str) -> tuple[str, ...]:
        """As the configuration has it, rules in the spelling of ``TableRule.text``."""
        if name == "sharding.tables":
            return tuple(rule.text for rule in config.rules)
        return tuple(getattr(config, name.removeprefix("sharding.")))

    return {name: value for name, value in options.items() if value != present(name)}


def _uncut(types: tuple[str, ...]) -> tuple[str, ...]:
    kept = tuple(kind for kind in types if kind not in CUT_BY_COLUMNS)
    return kept or ("table_wise", "row_wise")


def _joined(there: Iterable[str], added: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys([*there, *added]))


def _word(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)

"""The command line's options: a typed configuration from a recipe and overrides.

``dropdrift train --recipe NAME|FILE --model.dcnv2.deep-widths 512 256 --loop.epochs=3 --resume``

The configuration's dataclasses are the only list of the options: their attributes' docstrings are
the help, their types decide what is accepted.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin

import tyro

from dropdrift.data.typed_mapping import suggestion
from dropdrift.launchers.config_file import (
    assemble,
    convert,
    flag_of,
    load_config,
    optional_of,
    options_of,
    read_options,
)
from dropdrift.launchers.processes import number_of_processes
from dropdrift.launchers.shipped import ShippedFiles

__all__ = ["CHECK_FLAG", "find_recipe", "load_config", "parse_config", "recipe_names"]

# Beside --help, of every command: judge the options, say nothing of good ones, and leave. --check=N
# judges them for N processes.
CHECK_FLAG = "--check"

C = TypeVar("C")

_RECIPES = ShippedFiles("recipes", "recipe")


def parse_config(
    config_type: type[C],
    arguments: Sequence[str],
    *,
    prog: str,
    description: str,
    recipe: bool = False,
    base: Mapping[str, Any] | None = None,
    judge: Callable[[C, int], None] | None = None,
) -> C:
    """Read the options of a command; leave after them if asked for the help or a check alone.

    Args:
        config_type: nested dataclasses, see :mod:`dropdrift.launchers.config_file`.
        arguments: the command line after the command's name.
        prog: how the command is called, such as ``dropdrift train``.
        description: what the help says first.
        recipe: whether ``--recipe NAME|FILE`` is an option.
        base: options by dotted name that the arguments override.
        judge: raises ValueError where the configuration does not fit a number of processes, which
            are those that run, or those that a check names.

    Raises:
        ValueError: an unknown option or recipe, a value of the wrong type, a missing required
            option, or whatever the configuration refuses.
        SystemExit: the help was printed, or only a check was asked for and nothing is wrong.
    """
    wants_help = not {"-h", "--help"}.isdisjoint(arguments)
    arguments, checked = _without_check(arguments)
    given = _split([argument for argument in arguments if argument not in ("-h", "--help")])
    named = recipe and "recipe" in given
    chosen = _one_text("recipe", given.pop("recipe")) if named else ""
    values = read_options(config_type, find_recipe(chosen)) if named else dict(base or {})
    if wants_help:
        _print_help(config_type, values, prog, description, recipe)
    overrides = _read_overrides(options_of(config_type), given, prog)
    try:
        config = assemble(config_type, values | overrides)
        if judge is not None:
            judge(config, checked or number_of_processes())
    except ValueError as error:
        raise ValueError(f"{error} (with recipe {chosen})" if chosen else str(error)) from error
    if checked is not None:
        sys.exit(0)
    return config


def recipe_names() -> list[str]:
    """The recipes that come with Dropdrift."""
    return _RECIPES.names()


def find_recipe(chosen: str) -> Path:
    """The file of a recipe that comes with Dropdrift, or a user's own; ValueError naming all."""
    return _RECIPES.find(chosen)


def _without_check(arguments: Sequence[str]) -> tuple[list[str], int | None]:
    """The other arguments, and for how many processes they are checked; 0: those that run."""
    rest, processes = [], None
    for argument in arguments:
        flag, equals, number = argument.partition("=")
        if flag != CHECK_FLAG:
            rest.append(argument)
        elif equals and not (number.isdecimal() and int(number)):
            raise ValueError(f"{argument} must name a number of processes, such as {CHECK_FLAG}=8")
        else:
            processes = int(number or 0)
    return rest, processes


def _split(arguments: Sequence[str]) -> dict[str, list[str]]:
    """Texts by flag, without its dashes and with underscores; a repeated flag's last texts win."""
    given: dict[str, list[str]] = {}
    texts: list[str] | None = None
    for argument in arguments:
        if argument.startswith("--"):
            flag, equals, text = argument[2:].partition("=")
            name = flag.replace("-", "_")
            given.pop(name, None)  # so that the order of the flags is that of their last use
            texts = given[name] = [text] if equals else []
        elif texts is None:
            raise ValueError(f"unexpected argument {argument!r}: options begin with --")
        else:
            texts.append(argument)
    return given


def _read_overrides(
    options: dict[str, Any], given: dict[str, list[str]], prog: str
) -> dict[str, Any]:
    negations = _negations(options)
    values: dict[str, Any] = {}
    for flag, texts in given.items():
        if flag in options:
            values[flag] = _from_texts(options[flag], texts, flag)
        elif flag in negations:
            if texts:
                raise ValueError(f"{flag_of(flag)} takes no value, found {' '.join(texts)!r}")
            values[negations[flag]] = False
        else:
            known = (flag_of(name) for name in (*options, *negations))
            hint = suggestion(flag_of(flag), known, str)
            raise ValueError(
                f"unknown option {flag_of(flag)}{hint or f'; {prog} --help lists them'}"
            )
    return values


def _negations(options: dict[str, Any]) -> dict[str, str]:
    """The flags that turn options off: ``model.no_gate``, as in the help, or ``no_model.gate``."""
    negations: dict[str, str] = {}
    for name, kind in options.items():
        if kind is bool:
            section, dot, last = name.rpartition(".")
            negations |= {f"{section}{dot}no_{last}": name, f"no_{name}": name}
    return negations


def _from_texts(kind: Any, texts: list[str], name: str) -> Any:
    inner = optional_of(kind)
    if inner is not kind and [text.lower() for text in texts] == ["none"]:
        return None
    flag = flag_of(name)
    if get_origin(inner) is tuple:
        item = get_args(inner)[0]
        return convert(inner, [_from_text(item, text) for text in texts], flag)
    if inner is bool and not texts:
        return True
    return convert(inner, _from_text(inner, _one_text(name, texts)), flag)


def _from_text(kind: Any, text: str) -> Any:
    """The YAML value that ``text`` stands for, or the text itself: ``convert`` judges it."""
    if kind is bool:
        return {"true": True, "false": False}.get(text.lower(), text)
    if kind is int:
        try:
            return int(text)
        except ValueError:
            return text
    if get_origin(kind) is Literal:
        return {str(choice): choice for choice in get_args(kind)}.get(text, text)
    return text


def _one_text(name: str, texts: list[str]) -> str:
    if len(texts) != 1:
        found = f"found {len(texts)}: {' '.join(texts)}" if texts else "found none"
        raise ValueError(f"{flag_of(name)} takes one value, {found}")
    return texts[0]


def _print_help(
    config_type: type[Any], values: dict[str, Any], prog: str, description: str, recipe: bool
) -> None:
    """Have tyro print the help, with a recipe's values as the defaults, and leave."""
    shown: Any = config_type
    default: Any
    try:
        default = assemble(config_type, values)
    except ValueError:  # a required option has no default to show
        default = tyro.MISSING_NONPROP
    if recipe:
        shown = _with_recipe(config_type)
        default = shown(recipe="", config=default)
    tyro.cli(shown, prog=prog, description=description, args=["--help"], default=default)


def _with_recipe(config_type: type[Any]) -> Any:
    """``config_type`` with ``--recipe`` beside its own options, for the help."""
    names = ", ".join(recipe_names()) or "none is installed"
    about = f"Options to start from, set before all others: {names}, or a YAML file."
    recipe = tyro.conf.arg(metavar="NAME|FILE", help=about, help_behavior_hint="")
    options = tyro.conf.arg(name="")  # an empty name makes no section of its own
    return dataclasses.make_dataclass(
        "WithRecipe",
        [("recipe", Annotated[str, recipe]), ("config", Annotated[config_type, options])],
    )

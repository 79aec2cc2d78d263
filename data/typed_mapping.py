"""Dataclasses from what a YAML file holds: plain mappings, whose keys and types must be right."""

from __future__ import annotations

import dataclasses
import difflib
import math
import reprlib
import types
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

T = TypeVar("T")


def build(kind: type[T], raw: Any, owner: str) -> T:
    """The dataclass ``kind`` of a mapping.

    Args:
        kind: the dataclass; its attributes are text, numbers, bool, literals, dataclasses, tuples
            of one of these, optional, or Any.
        raw: the mapping.
        owner: what it describes, for messages.

    Raises:
        ValueError: it is no mapping, a key is unknown or missing, a value is of another type, or
            the dataclass refuses a value.
    """
    if not isinstance(raw, Mapping):
        raise ValueError(f"{owner} is {shown(raw)}, must be a mapping")
    fields = {field.name: field for field in dataclasses.fields(kind)}  # type: ignore[arg-type]  # a dataclass type
    hints = get_type_hints(kind)
    for key in raw:
        if key not in fields:
            raise ValueError(f"{owner} has the unknown key {key!r}{suggestion(str(key), fields)}")
    for name, field in fields.items():
        required = field.default is field.default_factory is dataclasses.MISSING
        if required and name not in raw:
            raise ValueError(f"{owner} has no key {name!r}")
    return kind(
        **{key: convert(hints[key], value, f"{owner}: {key}") for key, value in raw.items()}
    )


def convert(kind: Any, value: Any, name: str) -> Any:
    """``value`` as the type ``kind``.

    A number is also text, and one value also a tuple of one.

    Raises:
        ValueError: it is of another type; the line names ``name``.
    """
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return None if value is None else convert(arguments[0], value, name)
    if origin is Literal:
        if value not in arguments:
            close = suggestion(value, arguments) if isinstance(value, str) else ""
            raise ValueError(
                f"{name} is {shown(value)}, must be one of {', '.join(arguments)}{close}"
            )
        return value
    if origin is tuple:
        items = value if isinstance(value, list) else [value]
        return tuple(convert(arguments[0], item, name) for item in items)
    if dataclasses.is_dataclass(kind):
        assert isinstance(kind, type)
        return build(kind, value, _owner(kind, value, name))
    if kind is Any:
        return value
    if kind is str and type(value) in (int, float):
        return str(value)  # a code such as -1, or a column that is called 1
    if kind is float and type(value) is int:
        return float(value)
    plain = origin or kind
    if type(value) is not plain or (plain is float and not math.isfinite(value)):
        hint = "; put it in quotes" if plain is str and isinstance(value, bool) else ""
        raise ValueError(f"{name} is {shown(value)}, must be of type {plain.__name__}{hint}")
    return value


def shown(value: Any) -> str:
    """A value for a message: text and numbers whole, of lists and mappings the beginning.

    YAML's aliases make a list of a few hundred bytes as long as one likes.
    """
    if not isinstance(value, (list, tuple, set, Mapping)):
        return repr(value)
    short = reprlib.Repr()
    short.maxlevel = 2
    return short.repr(value)


def suggestion(name: str, known: Iterable[str], show: Callable[[str], str] = repr) -> str:
    """``; did you mean ...?`` where one of ``known`` is close to ``name``, else nothing."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {show(close[0])}?" if close else ""


def _owner(kind: Any, value: Any, name: str) -> str:
    """``field 'price'`` for what has a name."""
    if isinstance(value, Mapping) and "name" in value:
        return f"{kind.__name__.lower()} {shown(value['name'])}"
    return name

"""Typed configurations from YAML: plain mappings to nested dataclasses, strictly.

A configuration is a frozen dataclass whose fields are other such dataclasses (its *sections*) or
*options*: bool, int, float, str, Path, Literal, ``tuple[X, ...]`` and ``X | None`` of these. An
option is called by its dotted name, such as ``model.dcnv2.deep_widths``.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from dropdrift.data.typed_mapping import shown, suggestion
from dropdrift.data.yaml_file import read_yaml

C = TypeVar("C")

_SCALARS = {bool: "true or false", int: "a whole number", float: "a finite number", str: "text"}


def load_config(config_type: type[C], path: Path) -> C:
    """The configuration that a run's folder holds; an option that it leaves out has its default.

    Raises:
        ValueError: there is no such file, it is no YAML, it has an unknown key or a value of the
            wrong type, or the configuration refuses a value.
    """
    values = read_options(config_type, path)
    try:
        return assemble(config_type, values)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def read_options(config_type: type[Any], path: Path) -> dict[str, Any]:
    """The options that the YAML file ``path`` sets, by dotted name; ValueError as above."""
    raw = read_yaml(path)
    try:
        return options_in(config_type, {} if raw is None else raw)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def options_in(config_type: type[Any], raw: Any) -> dict[str, Any]:
    """The options that a mapping of sections sets, by dotted name; ValueError as above."""
    return _flatten(config_type, raw, "")


def options_of(config_type: type[Any]) -> dict[str, Any]:
    """The type of each option by its dotted name, in the order of the dataclasses."""
    options: dict[str, Any] = {}
    for name, kind in _hints(config_type).items():
        if dataclasses.is_dataclass(kind):
            assert isinstance(kind, type)
            options |= {f"{name}.{inner}": k for inner, k in options_of(kind).items()}
        else:
            options[name] = kind
    return options


def assemble(config_type: type[C], values: Mapping[str, Any]) -> C:
    """The configuration with the options ``values``, by dotted name, and defaults elsewhere.

    Raises:
        ValueError: a required option is missing, or the configuration refuses a value.
    """
    return _assemble(config_type, values, "", {})


def convert(kind: Any, value: Any, name: str) -> Any:
    """Check and convert a plain YAML value to an option's type.

    Raises:
        ValueError: the value is not of that type; the line names ``name`` and the value.
    """
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        inner = optional_of(kind)
        return None if value is None else convert(inner, value, name)
    if origin is tuple:
        assert arguments[1:] == (Ellipsis,), f"{name}: {kind} is no type of an option"
        if not isinstance(value, (list, tuple)):
            raise ValueError(f"{name} is {shown(value)}, must be a list")
        return tuple(convert(arguments[0], item, name) for item in value)
    if origin is Literal:
        if value not in arguments:
            allowed = ", ".join(map(str, arguments))
            raise ValueError(f"{name} is {shown(value)}, must be one of {allowed}")
        return value
    if kind is Path:
        return Path(convert(str, value, name))
    return _convert_scalar(kind, value, name)


def optional_of(kind: Any) -> Any:
    """X of ``X | None``; any other type as it is."""
    if get_origin(kind) not in (Union, UnionType):
        return kind
    inner = [argument for argument in get_args(kind) if argument is not NoneType]
    assert len(inner) == 1, f"{kind} is no type of an option"
    return inner[0]


def flag_of(name: str) -> str:
    """An option as it is written on the command line: ``--model.z-width`` of ``model.z_width``."""
    return "--" + name.replace("_", "-")


def _convert_scalar(kind: Any, value: Any, name: str) -> Any:
    assert kind in _SCALARS, f"{name}: {kind} is no type of an option"
    if kind is float and type(value) in (int, str):
        # YAML 1.1 reads 1e-3, without a point, as text.
        with contextlib.suppress(ValueError, OverflowError):
            value = float(value)
    # NaN and infinity would pass every "must be positive" of the configurations.
    if type(value) is kind and (kind is not float or math.isfinite(value)):
        return value
    raise ValueError(f"{name} is {shown(value)}, must be {_SCALARS[kind]}")


def _flatten(config_type: type[Any], raw: Any, prefix: str) -> dict[str, Any]:
    if not isinstance(raw, dict):
        raise ValueError(f"{prefix.rstrip('.') or 'the file'} is {shown(raw)}, must be a mapping")
    hints = _hints(config_type)
    values: dict[str, Any] = {}
    for key, value in raw.items():
        name = f"{prefix}{key}"
        if key not in hints:
            raise ValueError(f"unknown key {name!r}{suggestion(str(key), hints, str)}")
        if dataclasses.is_dataclass(hints[key]):
            values |= _flatten(hints[key], value, f"{name}.")
        else:
            values[name] = convert(hints[key], value, name)
    return values


def _assemble(
    config_type: type[C], values: Mapping[str, Any], prefix: str, defaults: dict[str, Any]
) -> C:
    """``defaults`` by field name win over the dataclass's own: what an outer section chose."""
    defaults = _defaults(config_type) | defaults
    arguments: dict[str, Any] = {}
    for name, kind in _hints(config_type).items():
        if dataclasses.is_dataclass(kind):
            assert isinstance(kind, type)
            inner = vars(defaults[name]) if name in defaults else {}
            arguments[name] = _assemble(kind, values, f"{prefix}{name}.", inner)
        elif prefix + name in values:
            arguments[name] = values[prefix + name]
        elif name in defaults:
            arguments[name] = defaults[name]
        else:
            raise ValueError(f"required option {flag_of(prefix + name)} is missing")
    return config_type(**arguments)


def _defaults(config_type: type[Any]) -> dict[str, Any]:
    defaults: dict[str, Any] = {}
    for field in dataclasses.fields(config_type):
        if field.default is not dataclasses.MISSING:
            defaults[field.name] = field.default
        elif field.default_factory is not dataclasses.MISSING:
            defaults[field.name] = field.default_factory()
    return defaults


def _hints(config_type: type[Any]) -> dict[str, Any]:
    hints = get_type_hints(config_type)
    return {field.name: hints[field.name] for field in dataclasses.fields(config_type)}

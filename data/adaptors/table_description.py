"""The small YAML file that says which column of a user's table is what.

::

    name: shop                       # default: the file's name
    fields:                          # keys of data.source.FieldSpec
      - {name: user_id, kind: categorical, group: user, identifier: true}
      - {name: item_id, kind: categorical, group: item, identifier: true, min_count: 2}
      - {name: query, kind: categorical, encoding: hash, size: 100000}
      - {name: price, kind: numeric, group: item, missing_codes: [-1]}
      - {name: tags, kind: multi, separator: "|", max_length: 5}
      - {name: last_items, kind: sequence, separator: " ", max_length: 20, table: item_id,
         min_count: 2}
    labels: [click]                  # columns with 0, 1 or nothing; or, by name:
    # labels: {click: {}, liked: {column: rating, at_least: 4}}
    user: user_id                    # for metrics per user; may be left out
    time: timestamp                  # may be left out
    split: {validation: 0.1, test: 0.1}      # last shares of the rows in time order; or
    # split: {validation_from: 20240501, test_from: 20240508}, in the unit of the time column
    format:                          # of delimited text; all may be left out
      delimiter: ";"                 # default: tab for .tsv files, else comma
      columns: [user_id, ...]        # of a file without a header
      encoding: latin-1
      quote: ""                      # no quoting

Left out, ``encoding`` is ``vocabulary`` (``buckets`` for numeric fields), ``size`` of buckets 32,
and ``max_length`` 20 for multi-valued fields and 50 for sequences. Dates in ``split`` (2024-05-01)
are midnight UTC in seconds since 1970, which is also what a timestamp column of Parquet becomes.
"""

from __future__ import annotations

import dataclasses
import datetime
import difflib
import math
import types
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import yaml

from dropdrift.data.preparing.checks import unfitted_schema
from dropdrift.data.source import DatasetSpec, FieldSpec, FractionSplit, TimeSplit

BUCKETS = 32
MAX_LENGTHS = {"multi": 20, "sequence": 50}

T = TypeVar("T")


@dataclass(frozen=True)
class TextFormat:
    """How delimited text is read; see ``data.delimited.read_delimited``.

    Attributes:
        delimiter: between two values; empty: tab for .tsv files, else comma.
        columns: names of the columns; empty: the first line names them.
        encoding: of the file.
        quote: around values that hold the delimiter; empty: none.
    """

    delimiter: str = ""
    columns: tuple[str, ...] = ()
    encoding: str = "utf-8"
    quote: str = '"'

    def __post_init__(self) -> None:
        for name in ("delimiter", "quote"):
            if len(getattr(self, name)) > 1:
                raise ValueError(f"{name} is {getattr(self, name)!r}, must be one character")


@dataclass(frozen=True)
class LabelRule:
    """Where a label comes from.

    Attributes:
        column: the column; empty: the one of the label's name.
        at_least: the label is 1 where the column is at least this, else 0; None: the column is the
            label.
    """

    column: str = ""
    at_least: float | None = None


@dataclass(frozen=True)
class TableDescription:
    """All that the file says.

    Attributes:
        spec: the columns and the split.
        rules: where each label comes from.
        text: the format of delimited text.
    """

    spec: DatasetSpec
    rules: Mapping[str, LabelRule]
    text: TextFormat


@dataclass(frozen=True)
class _File:
    """The keys of the file, before they are interpreted."""

    fields: list[Any]
    labels: Any
    split: dict[Any, Any]
    name: str = ""
    user: str = ""
    time: str = ""
    format: dict[Any, Any] = dataclasses.field(default_factory=dict)


def read_description(path: Path) -> TableDescription:
    """Read the description in ``path``.

    Raises:
        ValueError: the file is missing or no YAML, has an unknown key or a value of the wrong type,
            or contradicts itself; the line names file, key and value.
    """
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ValueError(f"{path} does not exist") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} cannot be read: {error}") from error
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from error
    try:
        return _description(raw, path.stem)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _description(raw: Any, default_name: str) -> TableDescription:
    file = _build(_File, raw, "the file")
    rules = _rules(file.labels)
    spec = DatasetSpec(
        name=file.name or default_name,
        fields=tuple(_field(entry, number) for number, entry in enumerate(file.fields, 1)),
        labels=tuple(rules),
        split=_split(file.split),
        user=file.user,
        time=file.time,
    )
    unfitted_schema(spec)
    names = {field.name for field in spec.fields}
    for label, rule in rules.items():
        if rule.column in names:
            raise ValueError(
                f"label {label!r} is made of {rule.column!r}, which is also a field: a model would "
                "read its answer"
            )
    return TableDescription(spec, rules, _build(TextFormat, file.format, "format"))


def _field(raw: Any, number: int) -> FieldSpec:
    owner = f"field {number}"
    if isinstance(raw, Mapping):
        owner = f"field {raw.get('name', number)!r}"
        kind = raw.get("kind")
        defaults: dict[str, Any] = {"encoding": "vocabulary"}
        if kind == "numeric":
            defaults = {"encoding": "buckets", "size": BUCKETS}
        elif kind in MAX_LENGTHS:
            defaults["max_length"] = MAX_LENGTHS[kind]
        raw = {**defaults, **raw}
    return _build(FieldSpec, raw, owner)


def _rules(raw: Any) -> dict[str, LabelRule]:
    if isinstance(raw, list):
        names = _convert(tuple[str, ...], raw, "labels")
        return {name: LabelRule(column=name) for name in names}
    if not isinstance(raw, Mapping):
        raise ValueError(f"labels is {raw!r}, must be a list of columns or a mapping by label")
    rules = {}
    for name, entry in raw.items():
        rule = _build(LabelRule, {} if entry is None else entry, f"label {name!r}")
        name = _convert(str, name, "the name of a label")
        rules[name] = dataclasses.replace(rule, column=rule.column or name)
    return rules


def _split(raw: Mapping[Any, Any]) -> TimeSplit | FractionSplit:
    if {"validation_from", "test_from"} & raw.keys():
        return _build(TimeSplit, {key: _time(value) for key, value in raw.items()}, "split")
    return _build(FractionSplit, raw, "split")


def _time(value: Any) -> Any:
    """Seconds since 1970 of a date that YAML has recognised; anything else as it is."""
    if not isinstance(value, datetime.date):
        return value
    if not isinstance(value, datetime.datetime):
        value = datetime.datetime.combine(value, datetime.time())
    if value.tzinfo is None:
        value = value.replace(tzinfo=datetime.UTC)
    return value.timestamp()


def _build(kind: type[T], raw: Any, owner: str) -> T:
    """The dataclass ``kind`` of a mapping, whose keys and types must be right."""
    if not isinstance(raw, Mapping):
        raise ValueError(f"{owner} is {raw!r}, must be a mapping")
    fields = {field.name: field for field in dataclasses.fields(kind)}  # type: ignore[arg-type]  # a dataclass type
    hints = get_type_hints(kind)
    for key in raw:
        if key not in fields:
            raise ValueError(f"{owner} has the unknown key {key!r}{_suggestion(str(key), fields)}")
    for name, field in fields.items():
        required = field.default is field.default_factory is dataclasses.MISSING
        if required and name not in raw:
            raise ValueError(f"{owner} has no key {name!r}")
    values = {key: _convert(hints[key], value, f"{owner}: {key}") for key, value in raw.items()}
    try:
        return kind(**values)
    except ValueError as error:
        raise ValueError(f"{owner}: {error}") from error


def _convert(kind: Any, value: Any, name: str) -> Any:
    """``value`` as the type ``kind``; ValueError naming ``name`` where it is of another."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        return None if value is None else _convert(arguments[0], value, name)
    if origin is Literal:
        if value not in arguments:
            close = _suggestion(str(value), arguments)
            raise ValueError(f"{name} is {value!r}, must be one of {', '.join(arguments)}{close}")
        return value
    if origin is tuple:
        items = value if isinstance(value, list) else [value]
        return tuple(_convert(arguments[0], item, name) for item in items)
    if kind is Any:
        return value
    if kind is str and type(value) in (int, float):
        return str(value)  # a code such as -1, or a column that is called 1
    if kind is float and type(value) is int:
        return float(value)
    plain = origin or kind
    if type(value) is not plain or (plain is float and not math.isfinite(value)):
        hint = "; put it in quotes" if plain is str and isinstance(value, bool) else ""
        raise ValueError(f"{name} is {value!r}, must be of type {plain.__name__}{hint}")
    return value


def _suggestion(name: str, known: Collection[str]) -> str:
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""

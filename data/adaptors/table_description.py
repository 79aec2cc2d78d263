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
import reprlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dropdrift.data.preparing.checks import unfitted_schema
from dropdrift.data.source import DatasetSpec, FieldSpec, FractionSplit, TimeSplit
from dropdrift.data.typed_mapping import build, convert, suggestion
from dropdrift.data.yaml_file import read_yaml

BUCKETS = 32
MAX_LENGTHS = {"multi": 20, "sequence": 50}


@dataclass(frozen=True)
class TextFormat:
    """How delimited text is read; see ``data.adaptors.delimited``.

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
            mark = getattr(self, name)
            if len(mark) > 1 or not mark.isascii() or mark in ("\n", "\r"):
                raise ValueError(f"format: {name} is {mark!r}, must be one character, in ASCII")


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
    raw = read_yaml(path)
    try:
        return _description(raw, path.stem)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _description(raw: Any, default_name: str) -> TableDescription:
    if isinstance(raw, dict) and raw.get("kind") == "interactions":
        raise ValueError("describes interactions, which are prepared by '--task matching'")
    file = build(_File, raw, "the file")
    rules = _rules(file.labels)
    spec = DatasetSpec(
        name=file.name or default_name,
        fields=tuple(field_spec(entry, number) for number, entry in enumerate(file.fields, 1)),
        labels=tuple(rules),
        split=_split(file.split),
        user=file.user,
        time=file.time,
    )
    unfitted_schema(spec)
    check_tables(spec.fields)
    names = {field.name for field in spec.fields}
    for label, rule in rules.items():
        if rule.column in names:
            raise ValueError(
                f"label {label!r} is made of {rule.column!r}, which is also a field: a model would "
                "read its answer"
            )
    return TableDescription(spec, rules, build(TextFormat, file.format, "format"))


def field_spec(raw: Any, number: int, **defaults: Any) -> FieldSpec:
    """The field that entry ``number`` (from 1) of a list describes.

    Args:
        raw: the entry.
        number: its place, to name it where it has no name.
        defaults: values of keys that it leaves out.

    Raises:
        ValueError: it is no mapping, or a key is unknown, missing or of another type.
    """
    owner = f"field {number}"
    if isinstance(raw, Mapping):
        owner = f"field {raw.get('name', number)!r}"
        kind = raw.get("kind")
        defaults = {"encoding": "vocabulary", **defaults}
        if kind == "numeric":
            defaults |= {"encoding": "buckets", "size": BUCKETS}
        elif kind in MAX_LENGTHS:
            defaults["max_length"] = MAX_LENGTHS[kind]
        raw = {**defaults, **raw}
    return build(FieldSpec, raw, owner)


def check_tables(fields: tuple[FieldSpec, ...]) -> None:
    """Refuse the misspelt name of a table that shall be shared: no other field uses it.

    Raises:
        ValueError: there is one.
    """
    users = Counter(field.table_name for field in fields)
    for field in fields:
        if field.table in ("", field.name) or users[field.table] > 1:
            continue
        close = suggestion(field.table, users.keys() - {field.table})
        if close:
            raise ValueError(
                f"field {field.name!r}: no other field uses table {field.table!r}{close}"
            )


def _rules(raw: Any) -> dict[str, LabelRule]:
    if isinstance(raw, list):
        names = convert(tuple[str, ...], raw, "labels")
        for name, count in Counter(names).items():
            if count > 1:
                raise ValueError(f"label {name!r} is listed {count} times")
        return {name: LabelRule(column=name) for name in names}
    if not isinstance(raw, Mapping):
        raise ValueError(
            f"labels is {reprlib.repr(raw)}, must be a list of columns or a mapping by label"
        )
    rules = {}
    for name, entry in raw.items():
        rule = build(LabelRule, {} if entry is None else entry, f"label {name!r}")
        name = convert(str, name, "the name of a label")
        rules[name] = dataclasses.replace(rule, column=rule.column or name)
    return rules


def _split(raw: Mapping[Any, Any]) -> TimeSplit | FractionSplit:
    if {"validation_from", "test_from"} & raw.keys():
        return build(TimeSplit, {key: _time(value) for key, value in raw.items()}, "split")
    return build(FractionSplit, raw, "split")


def _time(value: Any) -> Any:
    """Seconds since 1970 of a date that YAML has recognised; anything else as it is."""
    if not isinstance(value, datetime.date):
        return value
    if not isinstance(value, datetime.datetime):
        value = datetime.datetime.combine(value, datetime.time())
    if value.tzinfo is None:
        value = value.replace(tzinfo=datetime.UTC)
    return value.timestamp()

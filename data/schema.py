"""The schema of a prepared data set: its fields, embedding tables, labels and fitted encodings.

A schema is what ``dropdrift prepare`` fits on the training part and every later step reads: the
loader to build batches, the models to size their tables, ``predict`` to encode raw rows. It is
stored as ``schema.yaml`` and holds nothing that depends on a model.

Ids: row 0 of every table is the out-of-vocabulary row. A *missing* feature has no id at all: its
bag is empty.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml

from dropdrift.data.typed_mapping import build
from dropdrift.data.yaml_file import read_yaml

SCHEMA_FILE = "schema.yaml"
FORMAT_VERSION = 1
# Ids are 32-bit integers on disk.
MAX_TABLE_ROWS = 2**31 - 1
# What FBGEMM's kernels take.
WIDTH_UNIT = 4

FieldKind = Literal["categorical", "numeric", "multi", "sequence"]
FieldGroup = Literal["user", "item", "context"]
Pooling = Literal["sum", "mean"]
EncodingKind = Literal["vocabulary", "hash", "buckets"]
DataKind = Literal["impressions", "interactions"]

FIELD_KINDS: tuple[str, ...] = ("categorical", "numeric", "multi", "sequence")
FIELD_GROUPS: tuple[str, ...] = ("user", "item", "context")
ENCODING_KINDS: tuple[str, ...] = ("vocabulary", "hash", "buckets")
POOLINGS: tuple[str, ...] = ("sum", "mean")
DATA_KINDS: tuple[str, ...] = ("impressions", "interactions")

Named = TypeVar("Named", "Field", "Table")


@dataclass(frozen=True)
class Encoding:
    """How raw values become ids of one table.

    Attributes:
        kind: ``vocabulary`` (value i of the vocabulary file has id i + 1, others 0), ``hash``
            (id = 1 + hash mod (rows - 1)) or ``buckets`` (id = 1 + number of edges <= value).
        edges: for ``buckets``, the ascending bucket edges, quantiles of the training part.
        digest: for ``vocabulary``, the SHA-256 of its values in order (``encoding.vocabulary``).
    """

    kind: EncodingKind
    edges: tuple[float, ...] = ()
    digest: str = ""


@dataclass(frozen=True)
class Table:
    """One embedding table: ``rows`` x ``width`` numbers, row 0 being out of vocabulary."""

    name: str
    rows: int
    width: int
    encoding: Encoding
    pooling: Pooling = "mean"

    def __post_init__(self) -> None:
        _require(self.rows >= 2, f"table {self.name!r}: rows is {self.rows}, must be at least 2")
        _require(
            self.rows <= MAX_TABLE_ROWS,
            f"table {self.name!r}: rows is {self.rows}, must be at most {MAX_TABLE_ROWS}",
        )
        _require(
            self.width >= 1 and self.width % WIDTH_UNIT == 0,
            f"table {self.name!r}: width is {self.width}, must be a positive multiple of "
            f"{WIDTH_UNIT}",
        )
        _one_of(self.pooling, POOLINGS, f"table {self.name!r}: pooling")
        _one_of(self.encoding.kind, ENCODING_KINDS, f"table {self.name!r}: encoding")
        if self.encoding.kind == "buckets":
            edges = self.encoding.edges
            _require(
                list(edges) == sorted(set(edges)),
                f"table {self.name!r}: bucket edges are not strictly ascending",
            )
            _require(
                self.rows == len(edges) + 2,
                f"table {self.name!r}: rows is {self.rows}, "
                f"{len(edges)} edges need {len(edges) + 2}",
            )


@dataclass(frozen=True)
class Field:
    """One feature of a row: a bag of ids of one table, empty when the feature is missing.

    Attributes:
        name: the column's name in the prepared Parquet files and in raw files given to ``predict``.
        kind: ``categorical`` and ``numeric`` hold at most one id; ``multi`` and ``sequence`` any
            number (a sequence in order, oldest first).
        table: the table that its ids belong to; several fields may share one.
        group: the side that it describes. Robustness is measured by group.
        identifier: whether it identifies one user, item or author rather than describing it. A
            cold start is a row with all identifiers missing.
        missing_codes: raw values, as text, that mean "missing" besides null and NaN.
        separator: for ``multi`` and ``sequence`` in text form, what separates the values.
        max_length: for ``multi`` and ``sequence``, how many ids are kept: the first of a
            multi-valued field, the last (newest) of a sequence.
        missing_rate: share of the training rows in which it is missing.
        pooling_factor: mean number of ids per training row.
    """

    name: str
    kind: FieldKind
    table: str
    group: FieldGroup = "context"
    identifier: bool = False
    missing_codes: tuple[str, ...] = ()
    separator: str = ""
    max_length: int = 1
    missing_rate: float = 0.0
    pooling_factor: float = 1.0

    def __post_init__(self) -> None:
        _require(bool(self.name), "a field has an empty name")
        _require(":" not in self.name, f"field {self.name!r}: a name may not hold a colon")
        _one_of(self.kind, FIELD_KINDS, f"field {self.name!r}: kind")
        _one_of(self.group, FIELD_GROUPS, f"field {self.name!r}: group")
        _require(
            self.max_length >= 1,
            f"field {self.name!r}: max_length is {self.max_length}, must be positive",
        )
        _require(
            self.is_bag or self.max_length == 1,
            f"field {self.name!r}: a {self.kind} field has max_length 1, not {self.max_length}",
        )
        _require(
            0 <= self.missing_rate <= 1,
            f"field {self.name!r}: missing_rate is {self.missing_rate}, must be in [0, 1]",
        )
        _require(
            self.pooling_factor >= 0,
            f"field {self.name!r}: pooling_factor is {self.pooling_factor}, must not be negative",
        )

    @property
    def is_bag(self) -> bool:
        """Whether it may hold several ids."""
        return self.kind in ("multi", "sequence")


@dataclass(frozen=True)
class Schema:
    """Fields, tables and labels of a prepared data set, in a fixed order.

    The order of ``fields`` is the order of the bits in a drop mask and of the embeddings in a
    model's input.

    Attributes:
        kind: ``impressions`` are rows with labels, for ranking. ``interactions`` are sequences of
            items, for matching: the fields describe the items, and there are no labels.
    """

    name: str
    fields: tuple[Field, ...]
    tables: tuple[Table, ...]
    labels: tuple[str, ...]
    has_user: bool = False
    has_time: bool = False
    kind: DataKind = "impressions"

    def __post_init__(self) -> None:
        _one_of(self.kind, DATA_KINDS, f"schema {self.name!r}: kind")
        _require(bool(self.fields), f"schema {self.name!r} has no field")
        if self.kind == "impressions":
            _require(bool(self.labels), f"schema {self.name!r} has no label")
        else:
            _require(not self.labels, f"schema {self.name!r} holds interactions and has labels")
        _unique([f.name for f in self.fields], "field")
        _unique([t.name for t in self.tables], "table")
        _unique(list(self.labels), "label")
        known = {t.name for t in self.tables}
        for field in self.fields:
            _require(
                field.table in known,
                f"field {field.name!r} names the unknown table {field.table!r}",
            )
        unused = known - {f.table for f in self.fields}
        _require(not unused, f"no field uses table {min(unused, default='')!r}")

    @property
    def field_names(self) -> tuple[str, ...]:
        """Names of the fields, in schema order."""
        return tuple(f.name for f in self.fields)

    @property
    def widths(self) -> tuple[int, ...]:
        """Embedding width of each field, in schema order."""
        return tuple(self.table(f.table).width for f in self.fields)

    def table(self, name: str) -> Table:
        """The table called ``name``; ValueError if there is none."""
        return _by_name(self.tables, name, "table")

    def field(self, name: str) -> Field:
        """The field called ``name``; ValueError if there is none."""
        return _by_name(self.fields, name, "field")

    def label_index(self, name: str) -> int:
        """Position of label ``name``; ValueError if there is none."""
        if name not in self.labels:
            raise ValueError(f"unknown label {name!r}; the data set has {', '.join(self.labels)}")
        return self.labels.index(name)

    def fingerprint(self) -> str:
        """SHA-256 of everything in it: equal for two data sets a model can be moved between."""
        text = json.dumps(to_dict(self), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    def save(self, directory: Path) -> None:
        """Write ``schema.yaml`` into ``directory``."""
        # Escaped, since PyYAML does not read back all of Unicode that it can write.
        text = yaml.safe_dump(to_dict(self), sort_keys=False)
        (directory / SCHEMA_FILE).write_text(text, encoding="utf-8")

    @staticmethod
    def load(directory: Path) -> Schema:
        """Read ``schema.yaml`` of a prepared data set or a run.

        Raises:
            ValueError: the file is not there, is no YAML, or lacks or misspells a key.
        """
        path = directory / SCHEMA_FILE
        if not path.is_file():
            raise ValueError(f"{path} does not exist: is {directory} made by 'dropdrift prepare'?")
        raw = read_yaml(path)
        try:
            return from_dict(raw)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error


def to_dict(schema: Schema) -> dict[str, Any]:
    """The schema as plain lists and dictionaries, without the keys that hold their default."""
    return {"format_version": FORMAT_VERSION, **_plain(schema)}


def from_dict(raw: Any) -> Schema:
    """The inverse of :func:`to_dict`; ValueError on an unknown key, a wrong type or version."""
    if not isinstance(raw, dict):
        raise ValueError(f"expected a mapping, found {type(raw).__name__}")
    raw = dict(raw)
    version = raw.pop("format_version", None)
    if version != FORMAT_VERSION:
        raise ValueError(f"format_version is {version!r}, this version reads {FORMAT_VERSION}")
    return build(Schema, raw, "schema")


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        entries = ((f, getattr(value, f.name)) for f in dataclasses.fields(value))
        return {f.name: _plain(v) for f, v in entries if v != f.default}
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value


def _by_name(items: tuple[Named, ...], name: str, what: str) -> Named:
    for item in items:
        if item.name == name:
            return item
    raise ValueError(f"unknown {what} {name!r}")


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)


def _one_of(value: str, allowed: tuple[str, ...], what: str) -> None:
    _require(value in allowed, f"{what} is {value!r}, must be one of {', '.join(allowed)}")


def _unique(names: list[str], what: str) -> None:
    for name, count in Counter(names).items():
        _require(count == 1, f"{what} {name!r} is listed {count} times")

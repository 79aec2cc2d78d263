"""The small YAML file that says which column of a user's table of interactions is what.

::

    kind: interactions
    name: shop                       # default: the file's name
    user: user_id
    item: product_id
    time: bought_at                  # may be left out: then the rows are in order of time
    keep: {event: [buy, gift]}       # the rows that are interactions; may be left out: all
    duplicates: drop                 # rows with user, item and time of an earlier one; else keep
    format: {delimiter: ";"}         # of delimited text, see data.adaptors.table_description
    items:                           # a table of the items; may be left out
      source: products.csv           # a file, folder or pattern, from this file's folder on
      item: id                       # default: the name above
      title: name                    # what a person calls it; may be left out
      fields:                        # as in data.adaptors.table_description
        - {name: category, kind: categorical}
        - {name: tags, kind: multi, separator: "|", max_length: 5}
        - {name: price, kind: numeric}
      format: {encoding: latin-1}
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from dropdrift.data.adaptors.row_filter import Kept, condition
from dropdrift.data.adaptors.table_description import TextFormat, check_tables, field_spec
from dropdrift.data.interactions.source import InteractionSpec
from dropdrift.data.preparing.checks import unfitted_schema
from dropdrift.data.typed_mapping import build, convert
from dropdrift.data.yaml_file import read_yaml


@dataclass(frozen=True)
class ItemsDescription:
    """The table of the items.

    Attributes:
        source: file, folder or pattern.
        item: the column of the item; the interactions' may have another name.
        text: the format of delimited text.
    """

    source: str
    item: str
    text: TextFormat


@dataclass(frozen=True)
class InteractionsDescription:
    """All that the file says.

    Attributes:
        spec: the columns.
        kept: the values that the columns of an interaction have.
        drop_duplicates: whether of several rows with one user, item and time the first alone is
            taken.
        text: the format of delimited text.
        items: the table of the items; None: there is none.
    """

    spec: InteractionSpec
    kept: Kept
    drop_duplicates: bool
    text: TextFormat
    items: ItemsDescription | None


@dataclass(frozen=True)
class _File:
    """The keys of the file, before they are interpreted."""

    kind: Literal["interactions"]
    user: str
    item: str
    name: str = ""
    time: str = ""
    keep: dict[Any, Any] = dataclasses.field(default_factory=dict)
    duplicates: Literal["keep", "drop"] = "keep"
    format: dict[Any, Any] = dataclasses.field(default_factory=dict)
    items: dict[Any, Any] | None = None


@dataclass(frozen=True)
class _Items:
    """The keys of ``items``."""

    source: str
    item: str = ""
    title: str = ""
    fields: list[Any] = dataclasses.field(default_factory=list)
    format: dict[Any, Any] = dataclasses.field(default_factory=dict)


def read_interactions_description(path: Path) -> InteractionsDescription:
    """Read the description in ``path``.

    Raises:
        ValueError: the file is missing or no YAML, has an unknown key or a value of the wrong type,
            or contradicts itself; the line names file, key and value.
    """
    raw = read_yaml(path)
    try:
        return _description(raw, path)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _description(raw: Any, path: Path) -> InteractionsDescription:
    if isinstance(raw, dict) and "kind" not in raw and "labels" in raw:
        raise ValueError(
            "describes a table for ranking, with labels; interactions are described by "
            "'kind: interactions', user, item and time"
        )
    file = build(_File, raw, "the file")
    items = None if file.items is None else build(_Items, file.items, "items")
    kept = {convert(str, column, "keep"): _values(column, v) for column, v in file.keep.items()}
    fields = (
        ()
        if items is None
        else tuple(
            field_spec(entry, number, group="item") for number, entry in enumerate(items.fields, 1)
        )
    )
    spec = InteractionSpec(
        name=file.name or path.stem,
        user=file.user,
        item=file.item,
        time=file.time,
        title="" if items is None else items.title,
        fields=fields,
        condition=condition(kept),
    )
    unfitted_schema(spec.dataset)
    check_tables(spec.dataset.fields)
    return InteractionsDescription(
        spec=spec,
        kept=kept,
        drop_duplicates=file.duplicates == "drop",
        text=build(TextFormat, file.format, "format"),
        items=None if items is None else _items(items, file.item, path),
    )


def _items(items: _Items, default_item: str, path: Path) -> ItemsDescription:
    if not (items.title or items.fields):
        raise ValueError("items has neither title nor fields: name some, or leave 'items' out")
    item = items.item or default_item
    for entry in items.fields:
        if entry.get("name") == item:
            raise ValueError(f"items: field {item!r} is the item, which is a field anyway")
    return ItemsDescription(
        source=str(path.parent / items.source),
        item=item,
        text=build(TextFormat, items.format, "items: format"),
    )


def _values(column: Any, raw: Any) -> tuple[str, ...]:
    """The values that are kept, as text."""
    values = raw if isinstance(raw, list) else [raw]
    texts = [str(value).lower() if isinstance(value, bool) else value for value in values]
    if not texts:
        raise ValueError(f"keep: {column} is empty: name the values of an interaction")
    return convert(tuple[str, ...], texts, f"keep: {column}")

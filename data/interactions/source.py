"""What an adaptor offers to ``prepare_interactions``: rows of user, item and time, and the items.

An adaptor knows one layout; it names, filters and derives columns, and knows nothing of codes,
vocabularies or sequences.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import pyarrow as pa

from dropdrift.data.interactions.layout import ITEM_FIELD
from dropdrift.data.quarantine import BadRows
from dropdrift.data.source import DatasetSpec, FieldSpec, FractionSplit


@dataclass(frozen=True)
class InteractionSpec:
    """What the columns of a source's rows mean. Other columns are ignored.

    Attributes:
        name: of the data set.
        user: the column with a row's user.
        item: the column with its item, in the interactions and in the items.
        time: the column that a user's rows are put in order by, whole or broken numbers in any
            unit; empty: the order of the rows is the order of time.
        title: the column of the items with what a person calls an item; empty: none.
        fields: further columns of the items, all of group ``item``.
        condition: which rows the source takes for interactions, for messages and statistics, such
            as ``is_click is 1``; empty: all.
    """

    name: str
    user: str
    item: str
    time: str = ""
    title: str = ""
    fields: tuple[FieldSpec, ...] = ()
    condition: str = ""

    def __post_init__(self) -> None:
        roles = {"user": self.user, "item": self.item, "time": self.time}
        for role in ("user", "item"):
            if not roles[role]:
                raise ValueError(f"data set {self.name!r} names no column for the {role}")
        given = [column for column in roles.values() if column]
        if len(set(given)) < len(given):
            raise ValueError(
                f"data set {self.name!r}: user, item and time are {', '.join(map(repr, given))}, "
                "must be different columns"
            )
        for field in self.fields:
            if field.name == ITEM_FIELD:
                raise ValueError(
                    f"data set {self.name!r}: a side field is called {ITEM_FIELD!r}, which is the "
                    "name of the item's own field: leave it out or give it another name"
                )
            if field.name == self.item:
                raise ValueError(
                    f"data set {self.name!r}: {field.name!r} is the item, which is a field anyway: "
                    "leave it out of the side fields"
                )
            if field.group != "item":
                raise ValueError(
                    f"field {field.name!r} has group {field.group!r}: the fields of a data set of "
                    "interactions describe items"
                )

    @property
    def dataset(self) -> DatasetSpec:
        """The fields of an item, its id first, in the terms of ``data.preparing``."""
        item = FieldSpec(ITEM_FIELD, "categorical", "vocabulary", group="item", identifier=True)
        return DatasetSpec(
            name=self.name,
            fields=(item, *self.fields),
            labels=(),
            split=FractionSplit(),
            user=self.user,
            time=self.time,
            kind="interactions",
        )


class InteractionSource(Protocol):
    """Interactions as a stream, and the items that they are with."""

    @property
    def spec(self) -> InteractionSpec:
        """What the columns mean."""

    @property
    def total_rows(self) -> int | None:
        """The number of interactions, where it is known without reading them."""

    def batches(self, bad_rows: BadRows) -> Iterator[pa.RecordBatch]:
        """All interactions in the order of the source, some tens of thousands at a time.

        Raises:
            ValueError: a file is missing or is not in the layout, or a row is bad in strict mode.
        """

    def items(self, bad_rows: BadRows) -> Iterator[pa.RecordBatch] | None:
        """The items with their titles and side features, each once; None: there are none.

        Items without interactions may be among them, and items with interactions may be absent.
        Columns hold what those of ``data.source.Source.batches`` do.

        Raises:
            ValueError: a file is missing or is not in the layout, or a row is bad in strict mode.
        """

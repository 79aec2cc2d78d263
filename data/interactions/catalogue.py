"""The items of a prepared data set and their encoded features.

Shapes: I items, K rows asked for.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from torchrec.sparse.jagged_tensor import KeyedJaggedTensor

from dropdrift.data.interactions.layout import (
    ITEM_COLUMN,
    ITEMS_FILE,
    TITLE_COLUMN,
    USERS_FILE,
)
from dropdrift.data.interactions.sequences import ADVICE, Sequences, check_kind, read_columns
from dropdrift.data.loading.block import ColumnBlock
from dropdrift.data.schema import Schema


@dataclass(frozen=True, eq=False)
class Catalogue:
    """All items.

    Attributes:
        items: raw ids, text [I].
        titles: text [I], null where there is none.
        block: the encoded fields of all items.
    """

    items: pa.Array
    titles: pa.Array
    block: ColumnBlock

    def __len__(self) -> int:
        return len(self.block)

    @staticmethod
    def load(directory: Path, schema: Schema) -> Catalogue:
        """The items of a prepared data set.

        Raises:
            ValueError: the data set holds no interactions, or its file of items is damaged or does
                not fit the schema.
        """
        check_kind(directory, schema)
        path = directory / ITEMS_FILE
        kinds = {f.name: "list<int32>" if f.is_bag else "int32" for f in schema.fields}
        table = read_columns(path, {ITEM_COLUMN: "string", TITLE_COLUMN: "string"} | kinds)
        items = table.column(ITEM_COLUMN).combine_chunks()
        if not len(items):
            raise ValueError(f"{path} holds no items: {ADVICE}")
        if items.null_count:
            raise ValueError(f"{path}: column {ITEM_COLUMN!r} has a null: {ADVICE}")
        # The users of interactions are in a file of their own.
        block = ColumnBlock.from_table(table, schema, path, require_targets=False)
        return Catalogue(items, table.column(TITLE_COLUMN).combine_chunks(), block)

    def features(
        self, rows: NDArray[np.integer] | None = None, *, fill: int = 0
    ) -> KeyedJaggedTensor:
        """The features of the items at ``rows`` [K], or of all items.

        Args:
            rows: any items, in any order, repeated or not.
            fill: rows without features follow, up to this number of rows in all.
        """
        block = self.block if rows is None else self.block.take(rows.astype(np.int64))
        return block.batch(rows=fill).features

    def check(self, sequences: Sequences, directory: Path) -> None:
        """ValueError if an interaction is with an item that is not in the catalogue."""
        highest = sequences.items.max(initial=-1)
        if highest >= len(self):
            raise ValueError(
                f"{directory / USERS_FILE} names item {highest}, {directory / ITEMS_FILE} has "
                f"items 0 to {len(self) - 1}: {ADVICE}"
            )

"""Titles and side features of the items that occur, out of a stream of all that are listed.

Shapes: I items of the catalogue.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from dropdrift.data.interactions.layout import TITLE_COLUMN
from dropdrift.data.interactions.row_checks import RowChecks
from dropdrift.data.interactions.source import InteractionSpec
from dropdrift.data.quarantine import BadRows


@dataclass(frozen=True, eq=False)
class SideItems:
    """What is known of the items of a catalogue.

    Attributes:
        titles: null where there is none, string [I].
        features: the raw columns of the side fields, null where the item is not listed, each [I].
        listed: items that the source lists, with interactions or without.
        known: items of the catalogue that are among them.
    """

    titles: pa.Array
    features: dict[str, pa.Array]
    listed: int = 0
    known: int = 0


def read_side_items(
    batches: Iterable[pa.RecordBatch] | None,
    item_ids: pa.Array,
    spec: InteractionSpec,
    bad_rows: BadRows,
) -> SideItems:
    """Looks the items of a catalogue up; memory holds their rows alone.

    A row without an item, or with text where a field is numeric, goes to ``bad_rows`` under its
    number in the stream (from 1).

    Args:
        batches: all listed items; None: none are.
        item_ids: the catalogue's raw ids, large_string [I], each once.
        spec: what the columns mean.
        bad_rows: takes the rows that cannot be read.

    Raises:
        ValueError: nothing is listed, or an item of the catalogue twice; a column is absent or of a
            wrong type; a row is bad in strict mode.
    """
    if batches is None:
        assert not spec.fields
        assert not spec.title
        return SideItems(pa.nulls(len(item_ids), pa.string()), {})
    origin = f"data set {spec.name!r}, items"
    found: list[pa.Table] = []
    places: list[NDArray[np.int64]] = []
    listed = 0
    for batch in batches:
        checks = RowChecks(batch, origin, listed + 1, bad_rows)
        rows, place = _found_rows(checks, item_ids, spec)
        found.append(rows)
        places.append(place)
        listed += batch.num_rows
    if not listed:
        raise ValueError(f"{origin}: the table of items holds no rows")
    place = np.concatenate(places)
    _check_once(place, item_ids, origin)
    row_of_item = np.full(len(item_ids), -1, dtype=np.int64)
    row_of_item[place] = np.arange(len(place))
    indices = pa.array(row_of_item, mask=row_of_item < 0)
    together = _together(found, origin)
    columns = {
        name: together.column(name).combine_chunks().take(indices) for name in together.column_names
    }
    titles = columns[TITLE_COLUMN] if spec.title else pa.nulls(len(item_ids), pa.string())
    features = {field.name: columns[field.name] for field in spec.fields}
    return SideItems(titles, features, listed, len(place))


def _found_rows(
    checks: RowChecks, item_ids: pa.Array, spec: InteractionSpec
) -> tuple[pa.Table, NDArray[np.int64]]:
    """The title and the features of the batch's items that are in the catalogue, and where."""
    keys = checks.keys(spec.item, "item")
    columns = {}
    if spec.title:
        columns[TITLE_COLUMN] = checks.titles(spec.title)
    for field in spec.fields:
        columns[field.name] = checks.column(field.name)
        if field.kind == "numeric":
            checks.numbers(field.name, field.missing_codes)
    found = pc.index_in(keys.values.cast(pa.large_string()), value_set=item_ids)
    # The last entry is what code -1 (no item) finds.
    place = np.append(pc.fill_null(found, -1).to_numpy(), -1)[keys.codes]
    kept = checks.good & (place >= 0)
    table = pa.table(columns)
    return table.filter(pa.array(kept)), place[kept].astype(np.int64)


def _check_once(places: NDArray[np.int64], item_ids: pa.Array, origin: str) -> None:
    counts = np.bincount(places, minlength=len(item_ids))
    if counts.max(initial=0) > 1:
        item = item_ids[int(counts.argmax())].as_py()
        raise ValueError(f"{origin}: item {item!r} is listed {counts.max()} times")


def _together(tables: list[pa.Table], origin: str) -> pa.Table:
    try:
        return pa.concat_tables(tables, promote_options="permissive")
    except pa.ArrowException as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{origin}: the files differ in a column's type ({reason})") from error

"""``dropdrift prepare LAYOUT --task matching``: interactions in, sequences and a catalogue out.

What the folder holds is in ``data.interactions.layout``. The source is read once. Memory holds the
interactions as numbers, 16 bytes each (user, item, time), and some 70 at the most while they are
sorted and written; the distinct ids as text; and the catalogue's rows of the side table.

The catalogue is all items with an interaction, in ascending order of their raw ids as text. Each
has a row of its own in the table of ``item_id``; vocabularies and bucket edges of the other fields
are fitted to the catalogue's rows. An item that the side table lacks has no side features.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from dropdrift.data.columns import USER_COLUMN
from dropdrift.data.encoding.encoder import Encoder, EncodingReport
from dropdrift.data.interactions.layout import (
    FILE_ORDER_COLUMN,
    ITEM_COLUMN,
    ITEM_FIELD,
    ITEMS_FILE,
    REQUEST_ITEMS,
    REQUEST_USER,
    SEQUENCE_COLUMN,
    TIMES_COLUMN,
    TITLE_COLUMN,
    USERS_FILE,
)
from dropdrift.data.interactions.ordering import OrderedInteractions, ordered
from dropdrift.data.interactions.reading import read_interactions
from dropdrift.data.interactions.side_items import SideItems, read_side_items
from dropdrift.data.interactions.source import InteractionSource, InteractionSpec
from dropdrift.data.interactions.statistics import sequence_statistics
from dropdrift.data.preparing.checks import named, unfitted_schema
from dropdrift.data.preparing.fitting import Fitter
from dropdrift.data.preparing.new_folder import new_data_folder
from dropdrift.data.preparing.prepare import EXAMPLE_FILE
from dropdrift.data.preparing.progress import RowProgress
from dropdrift.data.preparing.statistics import field_summary, write_statistics
from dropdrift.data.quarantine import BadRowMode, BadRows
from dropdrift.data.schema import Schema

EXAMPLE_USERS = 100
# Lists are found by 32-bit offsets.
MAX_INTERACTIONS = 2**31 - 1
_ROW_GROUP_ROWS = 65_536


def prepare_interactions(
    source: InteractionSource,
    out: Path,
    *,
    bad_rows: BadRowMode = "strict",
    overwrite: bool = False,
    progress: bool = True,
    provenance: Mapping[str, Any] | None = None,
) -> Schema:
    """Write the sequences of all users and the catalogue of all items of ``source``.

    Args:
        source: the interactions and the items.
        out: the folder to make.
        bad_rows: ``strict`` refuses the first row that cannot be read, ``quarantine`` sets such
            rows aside and counts them.
        overwrite: replace the prepared data set that is there.
        progress: show a progress bar on standard error.
        provenance: command line, versions and the like, kept in ``statistics.json`` as they are.

    Returns:
        The fitted schema, of kind ``interactions``.

    Raises:
        ValueError: ``out`` exists; the source's description contradicts itself or its columns;
            there is no interaction; an item is listed twice; a row is bad in strict mode. Nothing
            is left of ``out`` then.
    """
    spec = source.spec
    unfitted_schema(spec.dataset)
    aside = BadRows(bad_rows)
    with (
        new_data_folder(out, overwrite=overwrite) as folder,
        RowProgress(source.total_rows, shown=progress) as bar,
    ):
        read = bar.track(source.batches(aside), "read interactions")
        interactions = read_interactions(read, spec, aside)
        if len(interactions) > MAX_INTERACTIONS:
            raise ValueError(
                f"data set {spec.name!r} has {len(interactions):,} interactions, there may be "
                f"{MAX_INTERACTIONS:,}: take fewer days or fewer users"
            )
        user_ids, item_ids = interactions.user_ids, interactions.item_ids
        sequences = ordered(interactions)
        del interactions
        side = read_side_items(source.items(aside), item_ids, spec, aside)
        schema, item_statistics = _write_items(item_ids, side, spec, folder)
        _write_users(user_ids, sequences, folder)
        _write_example(user_ids, item_ids, sequences, folder)
        statistics = {
            "name": spec.name,
            "kind": schema.kind,
            "condition": spec.condition,
            **sequence_statistics(sequences, len(item_ids), has_time=bool(spec.time)),
            **item_statistics,
        }
        write_statistics(statistics, provenance, aside, folder)
    return schema


def _write_items(
    item_ids: pa.Array, side: SideItems, spec: InteractionSpec, folder: Path
) -> tuple[Schema, dict[str, Any]]:
    """Fits the schema to the catalogue, and writes both; returns what was counted."""
    catalogue = pa.RecordBatch.from_pydict({ITEM_FIELD: item_ids, **side.features})
    fitter = Fitter(spec.dataset)
    report = EncodingReport()
    with named(spec.name):
        fitter.add(catalogue)
        schema, vocabularies = fitter.fitted()
        encoded = Encoder(schema, vocabularies).encode(catalogue, report)
    schema.save(folder)
    for table, vocabulary in vocabularies.items():
        vocabulary.save(folder, table)
    columns = {ITEM_COLUMN: item_ids.cast(pa.string()), TITLE_COLUMN: side.titles}
    columns |= {name: encoded.column(name) for name in encoded.column_names}
    _write(pa.table(columns), folder / ITEMS_FILE)
    counted = {
        "fields": field_summary(report),
        "side_table": {
            "items": side.listed,
            "left_out_without_interaction": side.listed - side.known,
            "catalogue_items_not_in_it": len(item_ids) - side.known,
        },
    }
    return schema, counted


def _write_users(user_ids: pa.Array, sequences: OrderedInteractions, folder: Path) -> None:
    offsets = pa.array(sequences.offsets.astype(np.int32))
    lists = {
        SEQUENCE_COLUMN: sequences.items,
        TIMES_COLUMN: sequences.times,
        FILE_ORDER_COLUMN: sequences.file_order,
    }
    columns = {USER_COLUMN: user_ids.cast(pa.string())}
    columns |= {
        name: pa.ListArray.from_arrays(offsets, pa.array(values)) for name, values in lists.items()
    }
    _write(pa.table(columns), folder / USERS_FILE)


def _write_example(
    user_ids: pa.Array, item_ids: pa.Array, sequences: OrderedInteractions, folder: Path
) -> None:
    """The first users with their whole histories, as 'dropdrift retrieve' takes requests."""
    users = min(len(user_ids), EXAMPLE_USERS)
    offsets = sequences.offsets[: users + 1]
    items = item_ids.take(pa.array(sequences.items[: offsets[-1]])).cast(pa.string())
    columns = {
        REQUEST_USER: user_ids.slice(0, users).cast(pa.string()),
        REQUEST_ITEMS: pa.ListArray.from_arrays(pa.array(offsets.astype(np.int32)), items),
    }
    _write(pa.table(columns), folder / EXAMPLE_FILE)


def _write(table: pa.Table, path: Path) -> None:
    pq.write_table(
        table,
        path,
        compression="zstd",
        row_group_size=_ROW_GROUP_ROWS,
        write_page_checksum=True,
    )

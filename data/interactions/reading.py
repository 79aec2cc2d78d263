"""Reads a source's interactions into columns of numbers.

Shapes: N interactions, U users, I items.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from dropdrift.data.interactions.codes import CodeCollector
from dropdrift.data.interactions.row_checks import RowChecks, Times
from dropdrift.data.interactions.source import InteractionSpec
from dropdrift.data.quarantine import BadRows


@dataclass(frozen=True, eq=False)
class Interactions:
    """All interactions in the order of the source: 16 bytes each.

    Attributes:
        user_ids: raw ids of the users in the order in which they appear [U], large_string.
        item_ids: raw ids of the items in ascending order of the text [I], large_string.
        users: code of each interaction's user, int32 [N].
        items: code of each interaction's item, int32 [N].
        times: of each interaction [N], int64, or float64 where they came as floats or as text;
            None: there are no times.
    """

    user_ids: pa.Array
    item_ids: pa.Array
    users: NDArray[np.int32]
    items: NDArray[np.int32]
    times: Times | None

    def __len__(self) -> int:
        return len(self.users)


def read_interactions(
    batches: Iterable[pa.RecordBatch], spec: InteractionSpec, bad_rows: BadRows
) -> Interactions:
    """Collects all batches.

    A row without user, item or time, or with a time that is no number, goes to ``bad_rows`` under
    its number in the stream (from 1).

    Raises:
        ValueError: a column is absent or of a wrong type, a row is bad in strict mode, or no row
            is left.
    """
    origin = f"data set {spec.name!r}, interactions"
    users, items = CodeCollector(), CodeCollector()
    times: list[Times] = []
    first_row = 1
    for batch in batches:
        checks = RowChecks(batch, origin, first_row, bad_rows)
        user, item = checks.keys(spec.user, "user"), checks.keys(spec.item, "item")
        if spec.time:
            time = checks.times(spec.time)
            times.append(time[checks.good])
        users.add(user, checks.good)
        items.add(item, checks.good)
        first_row += batch.num_rows
    user_ids, user_codes = users.collected()
    item_ids, item_codes = items.collected()
    if not len(user_codes):
        aside = f"; rows set aside: {bad_rows.count:,}" if bad_rows.count else ""
        where = f" where {spec.condition}" if spec.condition else ""
        raise ValueError(f"data set {spec.name!r} has no interaction{where}{aside}")
    item_ids, item_codes = _sorted(item_ids, item_codes)
    return Interactions(
        user_ids, item_ids, user_codes, item_codes, np.concatenate(times) if spec.time else None
    )


def _sorted(ids: pa.Array, codes: NDArray[np.int32]) -> tuple[pa.Array, NDArray[np.int32]]:
    """The ids in ascending order, and the codes that they have then."""
    order = pc.sort_indices(ids).to_numpy()
    place = np.empty(len(order), dtype=np.int32)
    place[order] = np.arange(len(order), dtype=np.int32)
    return ids.take(pa.array(order)), place[codes]

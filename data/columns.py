"""Columns of a prepared table: their names, their types, and their values as numpy arrays.

Shapes: S single-valued fields, R rows, L labels, V ids in all.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from dropdrift.data.schema import Field, Schema

USER_COLUMN = ":user"
TIME_COLUMN = ":time"

MISSING = -1


def label_column(label: str) -> str:
    """The column of ``label``."""
    return f"label:{label}"


def single_fields(schema: Schema) -> tuple[Field, ...]:
    """The fields with at most one id a row, in schema order."""
    return tuple(field for field in schema.fields if not field.is_bag)


def bag_fields(schema: Schema) -> tuple[Field, ...]:
    """The multi-valued fields and sequences, in schema order."""
    return tuple(field for field in schema.fields if field.is_bag)


def columns_read(schema: Schema) -> list[str]:
    """The columns of a part file that batches are made of."""
    labels = [label_column(label) for label in schema.labels]
    return [*schema.field_names, *labels, *([USER_COLUMN] if schema.has_user else [])]


def check_columns(
    found: pa.Schema, schema: Schema, origin: Path, *, require_targets: bool = True
) -> None:
    """Hold a table's columns against the schema.

    Args:
        found: the table's Arrow schema.
        schema: what it should be.
        origin: the file to name.
        require_targets: whether labels and user must be there; they may be absent where rows are
            only scored.

    Raises:
        ValueError: a column is absent or of another type.
    """
    wanted = {field.name: "list<int32>" if field.is_bag else "int32" for field in schema.fields}
    wanted |= {label_column(label): "int8" for label in schema.labels}
    if schema.has_user:
        wanted[USER_COLUMN] = "int64"
    for name, expected in wanted.items():
        index = found.get_field_index(name)
        if index >= 0:
            kind = _type_name(found.field(index).type)
            if kind != expected:
                raise ValueError(
                    f"{origin}: column {name!r} is {kind}, the schema wants {expected}: "
                    "run 'dropdrift prepare' again"
                )
        elif require_targets or name in schema.field_names:
            raise ValueError(
                f"{origin}: no column {name!r}, which the schema names: "
                "run 'dropdrift prepare' again"
            )


def single_ids(table: pa.Table, schema: Schema, origin: Path) -> NDArray[np.int32]:
    """The ids of all single-valued fields, int32 [S, R]; -1 where missing.

    Raises:
        ValueError: an id is not a row of its table.
    """
    fields = single_fields(schema)
    ids = np.empty((len(fields), table.num_rows), dtype=np.int32)
    for row, field in zip(ids, fields, strict=True):
        column = table.column(field.name)
        row[:] = column.fill_null(MISSING).to_numpy()
        _check_ids(row, column.null_count, field, schema, origin)
    return ids


def bag_ids(
    table: pa.Table, field: Field, schema: Schema, origin: Path
) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """The number of ids of each row [R] and the ids of all rows [V] of a bag field.

    Raises:
        ValueError: an id is null or not a row of its table.
    """
    column = table.column(field.name)
    flat = pc.list_flatten(column)
    if flat.null_count:
        raise ValueError(
            f"{origin}: field {field.name!r} holds a list with a null in it: "
            "run 'dropdrift prepare' again"
        )
    ids: NDArray[np.int32] = flat.to_numpy()
    _check_ids(ids, 0, field, schema, origin)
    lengths = pc.list_value_length(column).fill_null(0).to_numpy()
    return lengths.astype(np.int64), ids


def label_values(table: pa.Table, schema: Schema, origin: Path) -> NDArray[np.float32]:
    """The labels, float32 [R, L]; NaN where a label is missing or the table has no such column.

    Raises:
        ValueError: a label is neither 0 nor 1.
    """
    labels = np.full((table.num_rows, len(schema.labels)), np.nan, dtype=np.float32)
    for index, label in enumerate(schema.labels):
        name = label_column(label)
        if name in table.column_names:
            column = table.column(name)
            _check_label(column.fill_null(0).to_numpy(), label, origin)
            labels[:, index] = column.cast(pa.float32()).fill_null(np.nan).to_numpy()
    return labels


def user_codes(table: pa.Table) -> NDArray[np.int64]:
    """The users, int64 [R]; 0 where there is none."""
    if USER_COLUMN not in table.column_names:
        return np.zeros(table.num_rows, dtype=np.int64)
    codes: NDArray[np.int64] = table.column(USER_COLUMN).fill_null(0).to_numpy()
    return codes


def _type_name(kind: pa.DataType) -> str:
    """The type as text, without the inner name that a file gives to a list's items."""
    return f"list<{kind.value_type}>" if pa.types.is_list(kind) else str(kind)


def _check_label(values: NDArray[np.int8], label: str, origin: Path) -> None:
    lowest, highest = values.min(initial=0), values.max(initial=1)
    if lowest < 0 or highest > 1:
        value = highest if highest > 1 else lowest
        raise ValueError(
            f"{origin}: label {label!r} is {value}, must be 0, 1 or null: "
            "run 'dropdrift prepare' again"
        )


def _check_ids(
    ids: NDArray[np.int32], missing: int, field: Field, schema: Schema, origin: Path
) -> None:
    """Refuse ids that are no rows of the table; ``missing`` of them may be -1."""
    rows = schema.table(field.table).rows
    highest = ids.max(initial=MISSING)
    if highest < rows and np.count_nonzero(ids < 0) == missing:
        return
    value = highest if highest >= rows else ids.min()
    raise ValueError(
        f"{origin}: field {field.name!r} holds id {value}, table {field.table!r} has ids 0 to "
        f"{rows - 1}: the file and the schema are not of one data set"
    )

"""The scores of all rows of an evaluation, from which paired comparisons and bootstraps are made.

A Parquet file beside the result, a row for each row of the part, in the part's order:

* ``user``: int64, a code of the row's user, 0 where it is not known;
* ``label:TASK``: float32, NaN where the label is not known;
* ``logit:DROP=VALUE:TASK``: float32, with those fields dropped, as ``logit:share=0.5:is_click`` or
  ``logit:group=user:is_click``; ``share=0.0`` is the complete rows.

Needs no torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast, get_args

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from dropdrift.data.parquet_file import reading_parquet
from dropdrift.training.comparison import NOTHING, Drop
from dropdrift.training.provenance import whole_file
from dropdrift.training.result import DropKind

Floats = NDArray[np.float32]

_USER, _LABEL, _LOGIT = "user", "label:", "logit:"


@dataclass(frozen=True)
class ScoredRows:
    """The rows of a part, in its order: R rows.

    Attributes:
        users: a code of each row's user, 0 where it is not known, [R].
        labels: by task, 0 or 1, NaN where it is not known, [R].
        logits: by task and what was dropped, [R]; ``NOTHING`` is there for every task.
    """

    users: NDArray[np.int64]
    labels: Mapping[str, Floats]
    logits: Mapping[tuple[str, Drop], Floats]


def scores_path(path: Path) -> Path:
    """The file of scores of a result file: scores-test.parquet beside evaluation-test.json."""
    return path.with_name(f"scores-{path.stem.removeprefix('evaluation-')}.parquet")


def write_scores(path: Path, rows: ScoredRows) -> None:
    """Write the file, whole or not at all."""
    columns: dict[str, NDArray[Any]] = {_USER: rows.users}
    columns |= {f"{_LABEL}{task}": values for task, values in rows.labels.items()}
    columns |= {_logit_name(task, drop): values for (task, drop), values in rows.logits.items()}
    repeated = [name for name in columns if not name.startswith(_LOGIT)]
    with whole_file(path) as partial:
        # Logits hardly repeat: in a dictionary they take more room.
        pq.write_table(pa.table(columns), partial, compression="zstd", use_dictionary=repeated)


def read_scores(path: Path) -> ScoredRows:
    """Read what :func:`write_scores` wrote.

    Raises:
        ValueError: the file is not there, is damaged, or holds something else; names file and
            column.
    """
    if not path.is_file():
        raise ValueError(f"{path} is not there: evaluate the run with --scores")
    with reading_parquet(path), pq.ParquetFile(path) as file:
        table = file.read()
    try:
        return _scored_rows(table)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _scored_rows(table: pa.Table) -> ScoredRows:
    names = table.column_names
    if _USER not in names or not any(name.startswith(_LABEL) for name in names):
        raise ValueError("these are no scores of an evaluation, which have a user and a label")
    labels: dict[str, Floats] = {}
    logits: dict[tuple[str, Drop], Floats] = {}
    for name in names:
        if name.startswith(_LABEL):
            labels[name.removeprefix(_LABEL)] = _numbers(table, name, np.float32)
        elif name != _USER:
            key = _of_logit_name(name)
            logits[key] = _numbers(table, name, np.float32)
    for task in {task for task, _ in logits} - labels.keys():
        raise ValueError(f"the column {_LABEL + task!r} is missing")
    for task in labels:
        if (task, NOTHING) not in logits:
            raise ValueError(f"the column {_logit_name(task, NOTHING)!r} is missing")
    return ScoredRows(_numbers(table, _USER, np.int64), labels, logits)


def _numbers(table: pa.Table, name: str, kind: type[np.generic]) -> NDArray[Any]:
    if table.column_names.count(name) > 1:
        raise ValueError(f"the column {name!r} is there more than once")
    column = table[name]
    wanted = pa.from_numpy_dtype(kind)
    if column.type != wanted or column.null_count:
        held = f"{column.null_count} nulls" if column.type == wanted else column.type
        raise ValueError(f"the column {name!r} holds {held}, must hold {wanted} alone")
    return np.asarray(column.to_numpy())


def _logit_name(task: str, drop: Drop) -> str:
    return f"{_LOGIT}{drop[0]}={drop[1]}:{task}"


def _of_logit_name(name: str) -> tuple[str, Drop]:
    """Task and drop: the inverse of :func:`_logit_name`."""
    drop, _, task = name.removeprefix(_LOGIT).partition(":")
    kind, _, value = drop.partition("=")
    try:
        if not name.startswith(_LOGIT) or kind not in get_args(DropKind) or not value or not task:
            raise ValueError
        return task, (cast(DropKind, kind), float(value) if kind == "share" else value)
    except ValueError:
        raise ValueError(f"the column {name!r} is none of an evaluation's scores") from None

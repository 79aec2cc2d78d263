"""Which data a run, or an experiment, was made from: kept in its folder, and held against later."""

from __future__ import annotations

from pathlib import Path

from dropdrift.data.contents import changed_file, contents
from dropdrift.data.json_file import read_json
from dropdrift.data.schema import DataKind
from dropdrift.training.provenance import write_result

DATA_RECORD = "data.json"


def write_data_record(folder: Path, data: Path, kind: DataKind, *, test: bool = False) -> None:
    """Keep in ``folder`` what the files of the prepared data set ``data`` are.

    Those of the test part count where it is evaluated (``test``).
    """
    write_result(folder / DATA_RECORD, contents(data, kind, test=test))


def check_data_record(folder: Path, data: Path, kind: DataKind) -> None:
    """Make sure that ``data``, wherever it lies now, is what ``folder`` was made from.

    One that older versions have made holds no record, and anything is taken.

    Raises:
        ValueError: a file of it is missing, another one or new; the message names the first.
    """
    record = folder / DATA_RECORD
    if not record.is_file():
        return
    was = read_json(record)
    if not isinstance(was, dict):
        raise ValueError(f"{record} is damaged: it names no files")
    test = any(name.startswith("test/") for name in was)
    changed = changed_file(was, contents(data, kind, test=test))
    if changed:
        raise ValueError(
            f"{data} is not the data that {folder} was made from: {changed}; give that data, or "
            f"another --out (or remove {record} to go on with other rows)"
        )

"""What the files of a prepared data set are, told without reading them whole.

Each is known by its name, its size and the SHA-256 of its Parquet footer, which holds where every
column of every row group lies, how long it is when compressed, and its range of values. Files of
other rows differ in these; damage inside a row group does not show here, but where it is read.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

from dropdrift.data.interactions.layout import ITEMS_FILE, USERS_FILE
from dropdrift.data.schema import DataKind

# What training reads.
_TRAINED_ON: dict[DataKind, tuple[str, ...]] = {
    "impressions": ("train/*.parquet", "validation/*.parquet"),
    "interactions": (USERS_FILE, ITEMS_FILE),
}
# What an evaluation of the test part reads besides.
_TESTED_ON: dict[DataKind, tuple[str, ...]] = {
    "impressions": ("test/*.parquet",),
    "interactions": (),
}
# A Parquet file ends in the length of its footer, little-endian, and these letters.
_MAGIC, _END_BYTES = b"PAR1", 8


def contents(directory: Path, kind: DataKind, *, test: bool = False) -> dict[str, Any]:
    """Size and digest of each file that training reads, by its path in the data set.

    Args:
        directory: the prepared data set.
        kind: what it holds, as its schema says.
        test: also of the files that an evaluation of the test part reads.

    Raises:
        OSError: a file cannot be read.
    """
    patterns = (*_TRAINED_ON[kind], *(_TESTED_ON[kind] if test else ()))
    paths = sorted(path for pattern in patterns for path in directory.glob(pattern))
    return {path.relative_to(directory).as_posix(): _described(path) for path in paths}


def changed_file(was: dict[str, Any], now: dict[str, Any]) -> str | None:
    """The first file by name that is not as it was, with what is wrong; None where all are."""
    for name in sorted(was.keys() | now.keys()):
        if name not in now:
            return f"{name} is missing"
        if name not in was:
            return f"{name} was not there"
        if was[name] != now[name]:
            return f"{name} is another file"
    return None


def _described(path: Path) -> dict[str, Any]:
    with path.open("rb") as stream:
        size = stream.seek(0, os.SEEK_END)
        stream.seek(max(size - _END_BYTES, 0))
        end = stream.read()
        # One that is cut short has no footer: what it ends in is its digest.
        length = int.from_bytes(end[:4], "little") if end[4:] == _MAGIC else 0
        stream.seek(max(size - _END_BYTES - length, 0))
        return {"bytes": size, "footer_sha256": hashlib.sha256(stream.read()).hexdigest()}

"""Reading Parquet: whatever is wrong with a file is one line that names it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa


@contextmanager
def reading_parquet(path: Path, advice: str = "") -> Iterator[None]:
    """Turn an error of Arrow's reader into a ValueError of one line.

    Args:
        path: the file that is read in the block.
        advice: what to do, after the reason.

    Raises:
        ValueError: the file cannot be read.
    """
    try:
        yield
    except (pa.ArrowException, OSError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(
            f"{path} cannot be read as Parquet, is it cut short? ({reason}){advice}"
        ) from error

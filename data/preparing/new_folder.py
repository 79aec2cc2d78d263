"""Folders that appear whole or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from dropdrift.data.preparing.statistics import STATISTICS_FILE
from dropdrift.data.schema import SCHEMA_FILE


@contextmanager
def new_data_folder(out: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Yields an empty folder next to ``out`` that becomes ``out`` if the block ends without error.

    Args:
        out: where a prepared data set shall be.
        overwrite: replace the prepared data set that is there.

    Raises:
        ValueError: ``out`` is there and may not be replaced. With ``overwrite`` that is a file, or
            a folder that holds something else than a prepared data set.
    """
    with new_folder(out, lambda: _check_free(out, overwrite)) as folder:
        yield folder


@contextmanager
def new_folder(out: Path, check: Callable[[], None]) -> Iterator[Path]:
    """Yields an empty folder next to ``out`` that becomes ``out`` if the block ends without error.

    Args:
        out: the folder to make.
        check: raises ValueError where ``out`` is there and may not be replaced; called before the
            block and after it.
    """
    check()
    # The folder itself, so that a link to it stays one.
    out = out.resolve()
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_name(f".{out.name}.partial-{os.getpid()}")
    partial.mkdir()
    try:
        yield partial
        check()
        if out.exists():
            old = out.with_name(f".{out.name}.old-{os.getpid()}")
            out.rename(old)
            partial.rename(out)
            shutil.rmtree(old)
        else:
            partial.rename(out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _check_free(out: Path, overwrite: bool) -> None:
    if not out.exists():
        return
    if not overwrite:
        raise ValueError(f"{out} exists already: choose another folder or give '--overwrite'")
    # A run has a schema as well, but no statistics.
    is_prepared = (out / SCHEMA_FILE).is_file() and (out / STATISTICS_FILE).is_file()
    if not is_prepared and not (out.is_dir() and not any(out.iterdir())):
        raise ValueError(
            f"{out} holds no prepared data set, so '--overwrite' leaves it alone: "
            "choose another folder"
        )

"""Finding an adaptor's files and checking their headers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dropdrift.data.adaptors.delimited import header_of


def require_file(path: Path, layout: str) -> Path:
    """The path itself if it is a file.

    Raises:
        ValueError: it is not there; names the layout that was expected.
    """
    if not path.is_file():
        raise ValueError(f"{path} does not exist; expected {layout}")
    return path


def require_header(path: Path, columns: Sequence[str]) -> None:
    """Check that the first line of the comma-separated file ``path`` names ``columns``.

    Raises:
        ValueError: a column is not there.
    """
    header = header_of(path)
    for name in columns:
        if name not in header:
            found = ", ".join(header)
            raise ValueError(
                f"{path} has no column {name!r}, so it is not the official file; it begins with "
                f"{found[:80]!r}"
            )

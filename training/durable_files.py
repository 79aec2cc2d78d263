"""Files that are on the disk when a function returns, so that a power cut leaves them there.

What is written may stay in memory for half a minute, and so may the names in a directory: a file
that is synced can be missing after a power cut until its directory is synced, too.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path


def sync(path: Path) -> None:
    """Have what a file holds, or the names that a directory holds, on the disk.

    Raises:
        OSError: the disk does not take it.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some network file systems sync no directories: they write names at once.
        if error.errno != errno.EINVAL or not path.is_dir():
            raise
    finally:
        os.close(descriptor)


def write_synced(path: Path, text: str) -> None:
    """Write ``text``, in UTF-8; its name is synced with the directory."""
    with path.open("w", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())


def rename_synced(path: Path, target: Path) -> Path:
    """Rename within a directory; where it is now."""
    renamed = path.rename(target)
    sync(target.parent)
    return renamed

"""Reading text: a file that is not there or cannot be read is one line that names it."""

from __future__ import annotations

from pathlib import Path


def read_text(path: Path) -> str:
    """The content of the file ``path``, in UTF-8.

    Raises:
        ValueError: the file is not there or cannot be read.
    """
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise ValueError(f"{path} does not exist") from error
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} cannot be read: it is no text in UTF-8") from error

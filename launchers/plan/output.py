"""Where the numbers of ``dropdrift plan`` go besides the tables on the terminal."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dropdrift.training.provenance import check_writable, plain, write_result

# As a file's name: the terminal, or whatever standard output is.
STANDARD_OUTPUT = Path("-")


def check_outputs(*paths: Path | None) -> None:
    """Make sure, before the work, that its results can be written; ValueError if not."""
    for path in paths:
        if path is not None and path != STANDARD_OUTPUT:
            check_writable(path)


def write_json(numbers: Mapping[str, Any], path: Path | None) -> bool:
    """Write the numbers to ``path``, if there is one.

    Returns:
        Whether they went to the terminal, where nothing else must go then.
    """
    if path is None:
        return False
    if path != STANDARD_OUTPUT:
        write_result(path, numbers)
        return False
    json.dump(plain(numbers), sys.stdout, indent=2, ensure_ascii=False, allow_nan=False)
    print()
    return True

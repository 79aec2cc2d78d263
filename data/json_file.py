"""Reading JSON: whatever is wrong with a file is one line that names it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from dropdrift.data.text_file import read_text


def read_json(path: Path) -> Any:
    """The content of the JSON file ``path``.

    Raises:
        ValueError: the file is not there, cannot be read or is no JSON.
    """
    text = read_text(path)
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not valid JSON: {error}") from error

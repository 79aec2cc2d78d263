"""Reading YAML: whatever is wrong with a file is one line that names it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from dropdrift.data.text_file import read_text


def read_yaml(path: Path) -> Any:
    """The content of the file ``path``; None if it is empty.

    Raises:
        ValueError: the file is not there, cannot be read or is no YAML.
    """
    text = read_text(path)
    try:
        return yaml.safe_load(text)
    # PyYAML raises ValueError for 2024-13-45, which looks like a date.
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from error

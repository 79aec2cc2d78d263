"""``dropdrift``, but the last rank cannot write a checkpoint: ``failing_saves.py FAULT ...``.

It ``raises`` before the ranks speak of it, or ``hangs``, as a file system that does not answer.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

from dropdrift.launchers.main import main
from dropdrift.training import checkpoint_writer

SECOND = "step-000000014"


def spoil(fault: str) -> None:
    """Have the second checkpoint fail on this rank."""
    save = checkpoint_writer.save

    def failing(tensors: Any, *, checkpoint_id: Path, process_group: Any) -> None:
        if checkpoint_id.stem == SECOND and fault == "raises":
            raise TypeError("of a test")
        while checkpoint_id.stem == SECOND:
            time.sleep(1)
        save(tensors, checkpoint_id=checkpoint_id, process_group=process_group)

    checkpoint_writer.save = failing  # type: ignore[assignment]  # as it is called


if __name__ == "__main__":
    if os.environ["RANK"] == "1":
        spoil(sys.argv[1])
    main(sys.argv[2:])

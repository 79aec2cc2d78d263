"""The course of a run: JSON lines for programs, TensorBoard for people."""

from __future__ import annotations

import json
from pathlib import Path
from types import TracebackType

from torch.utils.tensorboard import SummaryWriter


class RunLog:
    """Writes named numbers by step into a JSON-lines file and TensorBoard.

    Args:
        file: the JSON-lines file; entries are appended.
        tensorboard: folder of the event files.
        first_step: where the run starts; TensorBoard hides the events after it that an
            interrupted run has left.
    """

    def __init__(self, file: Path, tensorboard: Path, first_step: int) -> None:
        self._stream = file.open("a", encoding="utf-8")
        # TensorBoard purges from this step on; the entries of `first_step` are not written again.
        self._writer = SummaryWriter(str(tensorboard), purge_step=first_step + 1)

    def write(self, kind: str, step: int, numbers: dict[str, float]) -> None:
        """One entry: ``kind`` is ``train`` or ``validation``."""
        self._stream.write(json.dumps({"kind": kind, "step": step, **numbers}) + "\n")
        self._stream.flush()
        for name, number in numbers.items():
            self._writer.add_scalar(f"{kind}/{name}", number, step)

    def __enter__(self) -> RunLog:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stream.close()
        self._writer.close()

"""SIGTERM, by which schedulers and torchrun end a process, is noted and acted on between steps."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SIGNALLED = 128  # plus the signal's number is the exit code that a shell reports


class EndedBySignal(SystemExit):
    """A run has saved a checkpoint and ends, as it was asked to.

    Args:
        step: of the checkpoint.
        folder: of the run.
    """

    def __init__(self, step: int, folder: Path) -> None:
        self.exit_code = SIGNALLED + signal.SIGTERM
        super().__init__(self.exit_code)
        self.message = f"{folder} ended by SIGTERM: saved step {step}; go on with --resume"


class EndRequest:
    """Whether this process was asked to end."""

    def __init__(self) -> None:
        self._noted = False

    def note(self) -> None:
        """It was. Again is no more than once: torchrun and Slurm may both say it."""
        self._noted = True

    def is_noted(self) -> bool:
        """Whether it was."""
        return self._noted


@contextmanager
def sigterm_noted(request: EndRequest) -> Iterator[None]:
    """Have SIGTERM noted in ``request`` while the block runs, in place of what it did before.

    Python hears signals in the main thread alone: in another one nothing is noted.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, lambda *_: request.note())
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)

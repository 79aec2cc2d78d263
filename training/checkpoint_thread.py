"""A thread in which checkpoints are written beside training, one at a time, on every rank."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta

import torch.distributed as dist

from dropdrift.training.group.hangs import is_of_another


class CheckpointThread:
    """Every rank has one, and must make it, start it and wait for it in the same order.

    Args:
        timeout: seconds after which a collective of the thread that does not end is an error.

    Attributes:
        group: for the thread's collectives, which would be mixed up with those of training.
    """

    def __init__(self, timeout: float) -> None:
        self.group: dist.ProcessGroup = dist.new_group(
            backend="gloo", timeout=timedelta(seconds=timeout)
        )
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None

    def start(self, action: Callable[[], None]) -> None:
        """Run ``action`` beside what comes next; the one before must have been waited for."""
        assert self._thread is None, "one at a time"
        self._thread = threading.Thread(target=self._run, args=(action,), name="checkpoint")
        self._thread.start()

    def has_failed(self) -> bool:
        """Whether the action that runs, or ran last, has failed on this rank."""
        return self._error is not None

    def wait(self) -> None:
        """Wait for the action's end on this rank.

        Where it has failed on another rank alone, that one ends, as this one will then notice.

        Raises:
            ValueError: it has failed.
            OSError: it has failed, on all ranks.
            RuntimeError: it has waited for another rank in vain.
        """
        if self._thread is None:
            return
        self.join()
        self._thread, error, self._error = None, self._error, None
        if error is None:
            return
        if isinstance(error, (ValueError, OSError)) or (
            isinstance(error, RuntimeError) and is_of_another(error)
        ):
            raise error
        said = " ".join(f"{type(error).__name__}: {error}".split())
        raise ValueError(f"a checkpoint could not be written beside training: {said}") from error

    def join(self) -> None:
        """Wait for the action's end on this rank, whatever it was."""
        if self._thread is not None:
            self._thread.join()

    def _run(self, action: Callable[[], None]) -> None:
        try:
            action()
        except BaseException as error:  # noqa: BLE001  # raised again in wait()
            self._error = error

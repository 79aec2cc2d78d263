"""Writes the checkpoints of a run, and removes those that are not kept."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from types import TracebackType
from typing import Any

import torch.distributed as dist
from torchrec.distributed import DistributedModelParallel

from dropdrift.training.checkpoint import TrainingState, checkpoint_tensors
from dropdrift.training.checkpoint_copy import copy_to_host
from dropdrift.training.checkpoint_thread import CheckpointThread
from dropdrift.training.checkpoint_writer import (
    begin_checkpoint,
    complete_checkpoint,
    prune_checkpoints,
    remove_leftovers,
)
from dropdrift.training.config import LoopConfig
from dropdrift.training.distributed import on_first_rank
from dropdrift.training.optimizers import Optimizers


class Saver:
    """Saves one run; every rank must call every method, in the same order.

    As a context it lets the checkpoint that is being written be completed, whatever ends the block.

    Args:
        folder: of the run's checkpoints.
        model: its weights are saved.
        optimizers: their state is saved.
        loop: how many are kept, and whether training goes on while one is written.
    """

    def __init__(
        self,
        folder: Path,
        model: DistributedModelParallel,
        optimizers: Optimizers,
        loop: LoopConfig,
    ) -> None:
        self._folder, self._model, self._optimizers = folder, model, optimizers
        self._keep = loop.keep_checkpoints
        self._thread = CheckpointThread(loop.timeout) if loop.save_in_background else None

    def save(self, state: TrainingState, plan: Mapping[str, Any] | None = None) -> None:
        """Write the checkpoint of ``state.step`` unless it is there, or begin to.

        Args:
            state: where the run stands.
            plan: the document of the plan that the model is sharded by, if there is one.

        Raises:
            ValueError: it, or the one before it, could not be written.
        """
        self.wait()
        tensors = checkpoint_tensors(self._model, self._optimizers)
        partial = begin_checkpoint(self._folder, state.step, tensors)
        if partial is None:
            return
        if self._thread is None:
            self._complete(partial, tensors, state, plan, None)
            return
        group = self._thread.group
        then, copies = deepcopy(state), copy_to_host(tensors, group)
        self._thread.start(lambda: self._complete(partial, copies, then, plan, group))

    def has_failed(self) -> bool:
        """Whether it is known, on this rank, that :meth:`wait` will raise."""
        return self._thread is not None and self._thread.has_failed()

    def wait(self) -> None:
        """Wait until the checkpoint that was begun last is committed.

        Raises:
            ValueError: it could not be written.
            RuntimeError: a rank has waited for another in vain.
        """
        if self._thread is not None:
            self._thread.wait()

    def finish(self, state: TrainingState) -> None:
        """Wait for the last checkpoint, and remove what an interruption may have left beside it.

        Raises:
            ValueError: it could not be written.
            RuntimeError: a rank has waited for another in vain.
        """
        self.wait()
        on_first_rank(lambda: self._tidy(state))

    def _tidy(self, state: TrainingState) -> None:
        remove_leftovers(self._folder)
        prune_checkpoints(self._folder, self._keep, state.best_step)

    def _complete(
        self,
        partial: Path,
        tensors: dict[str, Any],
        state: TrainingState,
        plan: Mapping[str, Any] | None,
        group: dist.ProcessGroup | None,
    ) -> None:
        complete_checkpoint(partial, tensors, state, plan, group)
        on_first_rank(lambda: prune_checkpoints(self._folder, self._keep, state.best_step), group)

    def __enter__(self) -> Saver:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._thread is not None:
            self._thread.join()

"""Writes the checkpoints of a run, and removes those that are not kept."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torchrec.distributed import DistributedModelParallel

from dropdrift.training.checkpoint import TrainingState, prune_checkpoints, save_checkpoint
from dropdrift.training.distributed import Ranks
from dropdrift.training.optimizers import Optimizers


class Saver:
    """Saves one run; every rank must call every method, in the same order.

    Args:
        folder: of the run's checkpoints.
        model: its weights are saved.
        optimizers: their state is saved.
        ranks: this process among all.
        keep: newest checkpoints kept besides the best one.
    """

    def __init__(
        self,
        folder: Path,
        model: DistributedModelParallel,
        optimizers: Optimizers,
        ranks: Ranks,
        keep: int,
    ) -> None:
        self._folder, self._model, self._optimizers = folder, model, optimizers
        self._ranks, self._keep = ranks, keep

    def save(self, state: TrainingState, plan: Mapping[str, Any]) -> None:
        """Write the checkpoint of ``state.step`` unless it is there.

        Raises:
            ValueError: it could not be written.
        """
        save_checkpoint(self._folder, self._model, self._optimizers, state, plan)
        if self._ranks.is_first:
            prune_checkpoints(self._folder, self._keep, state.best_step)

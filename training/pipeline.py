"""TorchRec's training pipeline, with a guard before the backward."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from torchrec.distributed import DistributedModelParallel
from torchrec.distributed.train_pipeline import TrainPipelineSparseDist

from dropdrift.data.batch import Batch, SequenceBatch
from dropdrift.training.agreement import StepAgreement
from dropdrift.training.config import Precision
from dropdrift.training.group.hangs import LostRankError
from dropdrift.training.optimizers import Optimizers

_PRECISIONS: dict[Precision, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16}


class NonFiniteLossError(ValueError):
    """The loss is NaN or infinite on this rank; no weight has been changed by that batch."""


class GuardedPipeline(TrainPipelineSparseDist[Batch | SequenceBatch, dict[str, torch.Tensor]]):
    """Overlaps copies and the exchange of ids with forward and backward.

    The tables are updated inside the backward, so a loss that is not finite must stop all ranks
    before it.

    Args:
        model: the sharded model.
        optimizers: of its parameters.
        device: of this rank.
        precision: arithmetic of the dense part.
        agreement: what the ranks tell each other before every backward.
        keep_failed: is given a batch whose loss is not finite on this rank, and the loss; says
            where it is kept.
    """

    def __init__(
        self,
        model: DistributedModelParallel,
        optimizers: Optimizers,
        device: torch.device,
        precision: Precision,
        agreement: StepAgreement | None = None,
        keep_failed: Callable[[Batch | SequenceBatch, float], str] | None = None,
    ) -> None:
        super().__init__(model, optimizers.combined, device, custom_model_fwd=self._forward)
        self._optimizers = optimizers
        self._precision = _PRECISIONS[precision]
        self._agreement = agreement or StepAgreement()
        self._keep_failed = keep_failed
        self._batch: Batch | SequenceBatch | None = None

    def _forward(self, batch: Batch | SequenceBatch | None) -> Any:
        self._batch = batch
        with torch.autocast(
            self._device.type, self._precision, enabled=self._precision != torch.float32
        ):
            return self._model(batch)

    def _backward(self, losses: torch.Tensor) -> None:
        loss = losses.item()
        finite = math.isfinite(loss)
        if not self._agreement.reach(finite):
            error = self._explained(loss, finite)
            dist.barrier()  # or torchrun ends the others while they still write
            raise error
        super()._backward(losses)

    def _explained(self, loss: float, finite: bool) -> ValueError:
        """What this rank says where a loss was not finite on some rank."""
        assert self._batch is not None, "a loss is of a batch"
        step = self._batch.step + 1
        if finite:
            return LostRankError(f"the loss of step {step} is not finite on another rank")
        kept = "" if self._keep_failed is None else f" ({self._keep_failed(self._batch, loss)})"
        return NonFiniteLossError(
            f"the loss of step {step} is {loss:g} on this rank{kept}: lower "
            "optimizer.learning_rate or optimizer.sparse_learning_rate, or use "
            "--loop.precision fp32"
        )

    def _optimizer_step(self) -> None:
        self._optimizers.clip_gradients()
        super()._optimizer_step()

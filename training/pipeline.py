"""TorchRec's training pipeline, with a guard before the backward."""

from __future__ import annotations

from typing import Any

import torch
from torchrec.distributed import DistributedModelParallel
from torchrec.distributed.train_pipeline import TrainPipelineSparseDist

from dropdrift.data.batch import Batch, SequenceBatch
from dropdrift.training.config import Precision
from dropdrift.training.distributed import all_ranks_agree
from dropdrift.training.optimizers import Optimizers

_PRECISIONS: dict[Precision, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16}


class NonFiniteLossError(ValueError):
    """The loss is NaN or infinite on some rank; no weight has been changed by that batch."""


class GuardedPipeline(TrainPipelineSparseDist[Batch | SequenceBatch, dict[str, torch.Tensor]]):
    """Overlaps copies and the exchange of ids with forward and backward.

    The tables are updated inside the backward, so a loss that is not finite must stop all ranks
    before it.
    """

    def __init__(
        self,
        model: DistributedModelParallel,
        optimizers: Optimizers,
        device: torch.device,
        precision: Precision,
    ) -> None:
        super().__init__(model, optimizers.combined, device, custom_model_fwd=self._forward)
        self._optimizers = optimizers
        self._precision = _PRECISIONS[precision]

    def _forward(self, batch: Batch | SequenceBatch | None) -> Any:
        with torch.autocast(
            self._device.type, self._precision, enabled=self._precision != torch.float32
        ):
            return self._model(batch)

    def _backward(self, losses: torch.Tensor) -> None:
        loss = losses.detach()
        if not all_ranks_agree(bool(torch.isfinite(loss))):
            raise NonFiniteLossError(
                f"the loss is {loss.item():g} on this rank, and not finite on at least one: "
                "lower optimizer.learning_rate or optimizer.sparse_learning_rate, or use "
                "--loop.precision fp32"
            )
        super()._backward(losses)

    def _optimizer_step(self) -> None:
        self._optimizers.clip_gradients()
        super()._optimizer_step()

"""Optimizers of the dense parameters and of the tables, and the course of their learning rates."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torchrec.distributed import DistributedModelParallel
from torchrec.optim.keyed import CombinedOptimizer, KeyedOptimizer, KeyedOptimizerWrapper
from torchrec.optim.optimizers import in_backward_optimizer_filter
from torchrec.optim.rowwise_adagrad import RowWiseAdagrad

from dropdrift.sharding.shard import fuse_sparse_optimizer, is_table
from dropdrift.training.config import OptimizerConfig

_SPARSE: dict[str, type[torch.optim.Optimizer]] = {
    "rowwise_adagrad": RowWiseAdagrad,
    "adagrad": torch.optim.Adagrad,
    "sgd": torch.optim.SGD,
}


def add_sparse_optimizer(collection: nn.Module, config: OptimizerConfig) -> None:
    """Train the tables of ``collection`` inside the backward. Call before sharding.

    With Adam there is nothing to do: replicated tables are trained after the backward.
    """
    if config.sparse == "adam":
        return
    options: dict[str, Any] = {"lr": config.sparse_learning_rate}
    if config.sparse != "sgd":
        options["eps"] = 1e-8
    fuse_sparse_optimizer(collection, _SPARSE[config.sparse], options)


class Optimizers:
    """Adam for the dense parameters, the tables' optimizer, and one schedule for both.

    Args:
        model: the sharded model.
        config: learning rates and schedule.
        total_steps: steps of the whole run, where the decay ends.
    """

    def __init__(
        self, model: DistributedModelParallel, config: OptimizerConfig, total_steps: int
    ) -> None:
        self.config = config
        self.total_steps = total_steps
        parameters = dict(in_backward_optimizer_filter(model.named_parameters()))
        tables = {name: p for name, p in parameters.items() if is_table(name)}
        self.dense_parameters = {n: p for n, p in parameters.items() if n not in tables}
        self._after_backward = [
            _adam(self.dense_parameters, config.learning_rate, config.weight_decay)
        ]
        self._peaks: list[tuple[KeyedOptimizer, float]] = [
            (model.fused_optimizer, config.sparse_learning_rate),
            (self._after_backward[0], config.learning_rate),
        ]
        if tables:
            # Decay would shrink the rows of items that a step does not touch.
            self._after_backward.append(_adam(tables, config.sparse_learning_rate, 0.0))
            self._peaks.append((self._after_backward[1], config.sparse_learning_rate))
        self.combined = _WithoutEmptyStates([model.fused_optimizer, *self._after_backward])

    def set_learning_rates(self, step: int) -> float:
        """Set both rates for ``step`` (from 0) and return their share of the peak."""
        share = learning_rate_share(self.config, step, self.total_steps)
        for optimizer, peak in self._peaks:
            for group in optimizer.param_groups:
                group["lr"] = peak * share
        return share

    def make_state(self) -> None:
        """Make the dense optimizer's state before its first step, so that it can be loaded into.

        It takes a step with zero gradients: load the weights afterwards.
        """
        for optimizer in self._after_backward:
            optimizer.init_state()

    def clip_gradients(self) -> None:
        """Scale the dense gradient down to the largest norm allowed, if one is set."""
        if self.config.gradient_clip:
            nn.utils.clip_grad_norm_(self.dense_parameters.values(), self.config.gradient_clip)


class _WithoutEmptyStates(CombinedOptimizer):
    """Tells and takes the state of no parameter that has none, such as those of SGD.

    torch saves nothing for an empty dictionary, and does not load a checkpoint that lacks it.
    """

    def state_dict(self) -> dict[str, Any]:
        """As TorchRec's, without empty states."""
        told = super().state_dict()
        return told | {"state": {name: state for name, state in told["state"].items() if state}}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """As TorchRec's, of what :meth:`state_dict` gives."""
        empty = {n: state for n, state in super().state_dict()["state"].items() if not state}
        super().load_state_dict({**state_dict, "state": {**state_dict["state"], **empty}})


def _adam(
    parameters: dict[str, nn.Parameter], learning_rate: float, weight_decay: float
) -> KeyedOptimizerWrapper:
    return KeyedOptimizerWrapper(
        parameters,
        lambda listed: torch.optim.AdamW(
            listed, lr=learning_rate, weight_decay=weight_decay, fused=True
        ),
    )


def learning_rate_share(config: OptimizerConfig, step: int, total_steps: int) -> float:
    """Share of the peak learning rate at ``step`` (from 0) of ``total_steps``."""
    if step < config.warmup_steps:
        return (step + 1) / config.warmup_steps
    if config.decay == "constant":
        return 1.0
    decay_steps = max(total_steps - config.warmup_steps, 1)
    progress = min((step - config.warmup_steps) / decay_steps, 1.0)
    remaining = 1 - progress if config.decay == "linear" else (1 + math.cos(math.pi * progress)) / 2
    return config.final_share + (1 - config.final_share) * remaining

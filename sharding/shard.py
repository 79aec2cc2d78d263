"""From a single-device model to a sharded one, with the tables' optimizer inside the backward."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torchrec.distributed import DistributedModelParallel
from torchrec.distributed.types import ShardingPlan
from torchrec.optim.apply_optimizer_in_backward import apply_optimizer_in_backward

from dropdrift.sharding.constraints import sharders


def fuse_sparse_optimizer(
    collection: nn.Module, optimizer: type[torch.optim.Optimizer], options: dict[str, Any]
) -> None:
    """Have the tables of ``collection`` updated inside the backward. Before sharding."""
    apply_optimizer_in_backward(optimizer, collection.parameters(), options)


def shard_model(
    model: nn.Module, plan: ShardingPlan, device: torch.device
) -> DistributedModelParallel:
    """Shard the tables by ``plan`` and replicate the rest. The tables' values are not set yet."""
    sharded = DistributedModelParallel(module=model, device=device, plan=plan, sharders=sharders())
    replicated = sharded._dmp_wrapped_module
    if isinstance(replicated, DistributedDataParallel):
        vars(replicated)["reducer"] = _FixedBuckets(replicated.reducer)
    return sharded


class _FixedBuckets:
    """The reducer of replicated gradients, whose buckets stay as they were first laid out.

    DistributedDataParallel lays them out anew after its first backward, and three ranks or more add
    a gradient in an order that depends on its place: a resumed run, whose first step is another
    one, would not end bit by bit as one that was never stopped.
    """

    def __init__(self, reducer: Any) -> None:
        self._reducer = reducer

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reducer, name)

    def _rebuild_buckets(self) -> bool:
        return False


def is_table(parameter: str) -> bool:
    """Whether a parameter of a model, by name, is an embedding table."""
    return ".embedding_bags." in parameter

"""From a single-device model to a sharded one, with the tables' optimizer inside the backward."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
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
    return DistributedModelParallel(module=model, device=device, plan=plan, sharders=sharders())


def is_table(parameter: str) -> bool:
    """Whether a parameter of a model, by name, is an embedding table."""
    return ".embedding_bags." in parameter

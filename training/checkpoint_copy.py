"""A copy of what a checkpoint holds, so that training goes on while it is written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed._shard.sharded_tensor.api import ShardedTensor


def copy_to_host(tensors: Mapping[str, Any], group: dist.ProcessGroup) -> dict[str, Any]:
    """``tensors`` as they are now, in memory of their own on the host.

    Args:
        tensors: nested; of sharded ones this rank's parts are copied.
        group: over gloo, for sharded tensors that were on GPUs.
    """
    return {
        name: copy_to_host(item, group) if isinstance(item, Mapping) else _copied(item, group)
        for name, item in tensors.items()
    }


def _copied(
    tensor: torch.Tensor | ShardedTensor, group: dist.ProcessGroup
) -> torch.Tensor | ShardedTensor:
    """On a CPU the tables are trained in place: what is on the host already is copied there."""
    if isinstance(tensor, ShardedTensor):
        on_host = tensor.cpu(process_group=group)
        return tensor.clone() if on_host is tensor else on_host
    assert isinstance(tensor, torch.Tensor), "a checkpoint is of tensors alone"
    return tensor.detach().to("cpu", copy=True)

"""The time of one action that all ranks of a group do at once."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

import torch
import torch.distributed as dist

T = TypeVar("T")

# Repetitions that are thrown away: the first ones allocate, connect and fill caches.
WARM_UP = 2


def time_together(
    action: Callable[[], T], device: torch.device, group: dist.ProcessGroup | None
) -> tuple[float, T]:
    """Milliseconds of ``action`` on the slowest rank, and what it returns on this one.

    All ranks begin together, as they do in training, so that they share what they share there: the
    host's memory, the links. A GPU is waited for before and after; that part has not run yet.

    Args:
        action: what to time.
        device: that it runs on.
        group: the ranks, every one of which must call; it needs a backend for CPU tensors. None:
            this process alone.
    """
    if group is not None:
        dist.all_reduce(torch.zeros(1), group=group)
    _finish(device)
    started = time.perf_counter()
    result = action()
    _finish(device)
    elapsed = torch.tensor(1e3 * (time.perf_counter() - started), dtype=torch.float64)
    if group is not None:
        dist.all_reduce(elapsed, dist.ReduceOp.MAX, group=group)
    return elapsed.item(), result


def _finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def ranks_of(group: dist.ProcessGroup | None) -> int:
    """Number of ranks of the group, or 1 without one."""
    return 1 if group is None else dist.get_world_size(group)

"""Memory that a call allocates on a GPU."""

from __future__ import annotations

import torch

from dropdrift.benchmarks.kernels.calls import Prepare


def peak_bytes(prepare: Prepare) -> int:
    """The most that is allocated at once during a call, beyond what was before.

    The forward of a backward alone counts too.
    """
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    prepare(0)()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before

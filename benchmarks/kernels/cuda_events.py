"""Times of calls on a GPU, by CUDA events."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from dropdrift.benchmarks.kernels.calls import Prepare


def event_times(prepare: Prepare, numbers: Sequence[int]) -> list[float]:
    """Milliseconds of each call, from the GPU's reaching it to its end.

    Where the program launches kernels more slowly than the GPU runs them, as with few rows, the GPU
    waits for each: the time is then the program's.
    """
    torch.cuda.synchronize()
    events = []
    for number in numbers:
        call = prepare(number)
        start, end = _event(), _event()
        start.record()
        call()
        end.record()
        events.append((start, end))
    torch.cuda.synchronize()
    return [start.elapsed_time(end) for start, end in events]


def _event() -> torch.cuda.Event:
    return torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]  # torch

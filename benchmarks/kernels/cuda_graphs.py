"""Calls captured as a CUDA graph: what they cost without launching each kernel from Python."""

from __future__ import annotations

import torch

from dropdrift.benchmarks.kernels.calls import Call, Prepare

WARM_UPS = 3


def capture(prepare: Prepare, calls: int) -> Call:
    """A replay of calls 0 to ``calls`` - 1, one after the other.

    As torch's notes on CUDA graphs ask for: warmed up on another stream first. A backward alone
    must not be captured: its forward would not be replayed, and what that saved be given away.

    Raises:
        RuntimeError: they cannot be captured, such as a copy from the host.
    """
    stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]  # torch
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for number in range(WARM_UPS):
            prepare(number)()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for number in range(calls):
            prepare(number)()
    return graph.replay

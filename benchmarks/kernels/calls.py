"""A provider called in one direction: what is timed, and what is done before it."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from dropdrift.benchmarks.kernels.cases.case import Case, Provider, Result
from dropdrift.benchmarks.kernels.record import Direction

# Something to time.
Call = Callable[[], object]
# Makes a call ready for the inputs of that number; what need not be timed is done here.
Prepare = Callable[[int], Call]


def preparation(case: Case, provider: Provider, direction: Direction) -> Prepare:
    """How calls of ``provider`` are made ready: for a backward alone, its forward is done before.

    Numbers beyond the sets of inputs begin again.
    """

    def forward(number: int) -> Result:
        """One that keeps nothing for a backward."""
        with torch.no_grad():
            return provider(number)

    def backward(number: int, output: Tensor | None) -> tuple[Tensor, ...]:
        """The gradients of all leaves."""
        assert case.gradients is not None
        assert output is not None
        leaves, upstream = case.gradients.leaves(number), case.gradients.upstream(number)
        return torch.autograd.grad(output, leaves, upstream)

    def prepare(number: int) -> Call:
        """What is to be timed."""
        number %= case.sets
        if direction == "forward":
            return lambda: forward(number)
        if direction == "both":
            return lambda: backward(number, provider(number).output)
        output = provider(number).output
        return lambda: backward(number, output)

    return prepare


def results(
    case: Case, provider: Provider, direction: Direction
) -> tuple[Result, tuple[Tensor, ...] | None]:
    """The result on set 0, and the gradients unless the direction is forward."""
    if direction == "forward":
        with torch.no_grad():
            return provider(0), None
    result = provider(0)
    assert case.gradients is not None
    assert result.output is not None
    leaves, upstream = case.gradients.leaves(0), case.gradients.upstream(0)
    return result, torch.autograd.grad(result.output, leaves, upstream)


def saved_bytes(case: Case, provider: Provider) -> int:
    """Bytes of memory that a forward saves for its backward, beyond its inputs."""
    inputs = {tensor.untyped_storage().data_ptr() for tensor in case.inputs(0)}
    saved: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        """Note a tensor that is saved, once for each piece of memory."""
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in inputs:
            saved[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        result = provider(0)  # kept, so that no memory is given out twice
    del result
    return sum(saved.values())

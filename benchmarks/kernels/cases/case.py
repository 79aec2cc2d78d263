"""What an operator's case offers to whoever checks and times it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from dropdrift.benchmarks.kernels.config import ProviderName
from dropdrift.benchmarks.kernels.record import Direction, Dtype, Op, RecordedDtype

DTYPES: dict[Dtype, torch.dtype] = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}
# Sets of inputs that are made at most: those of a few rows stay in a cache whatever one does.
MOST_SETS = 512


@dataclass(frozen=True)
class Result:
    """What a provider computes in one forward.

    Attributes:
        output: [B, ...], of which there are gradients; None: there is none but the mask.
        mask: what was dropped or missing, in the provider's own form: int32 words [B, W], or the
            [B, N] of 0 and 1 that it computed with, which costs nothing more to return.
    """

    output: Tensor | None
    mask: Tensor


@dataclass(frozen=True)
class Cost:
    """What a call must do at least, by anyone.

    Attributes:
        bytes_moved: read and written.
        flops: of matrix products.
    """

    bytes_moved: int
    flops: int

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.bytes_moved + other.bytes_moved, self.flops + other.flops)


@dataclass(frozen=True)
class Verdict:
    """Whether a result is right.

    Attributes:
        error: of what was computed.
        tolerance: what it must not exceed.
        problem: what else is wrong; empty where nothing is.
    """

    error: float
    tolerance: float
    problem: str = ""

    @property
    def reason(self) -> str:
        """Why it is not right; empty if it is."""
        if self.problem:
            return self.problem
        if not self.error <= self.tolerance:  # so that NaN is refused
            return f"the error is {self.error:.2g}, more than {self.tolerance:.2g}"
        return ""


# A provider: the forward on the set of inputs of that number.
Provider = Callable[[int], Result]


@dataclass(frozen=True)
class Shape:
    """What tells an operator's measurements apart, see ``record.Measurement``."""

    op: Op
    rows: int
    fields: int
    width: int
    hidden: int
    dtype: RecordedDtype
    activation: str


@dataclass(frozen=True)
class Gradients:
    """What a backward needs, by the number of the set of inputs.

    Attributes:
        leaves: the inputs that get gradients.
        upstream: the gradient of the output.
    """

    leaves: Callable[[int], tuple[Tensor, ...]]
    upstream: Callable[[int], Tensor]


@dataclass(frozen=True)
class Case:
    """An operator at one size, with sets of inputs that are used in rotation.

    Attributes:
        shape: which operator and size.
        sets: how many sets of inputs.
        provider: how one of them does.
        inputs: all tensors of a set.
        gradients: None: there is no backward.
        forward_cost: what a forward must do at least.
        backward_cost: the same of a backward alone.
        verdict: whether a provider's result on set 0 is right, and the leaves' gradients where
            there are any.
    """

    shape: Shape
    sets: int
    provider: Callable[[ProviderName], Provider]
    inputs: Callable[[int], tuple[Tensor, ...]]
    gradients: Gradients | None
    forward_cost: Cost
    backward_cost: Cost
    verdict: Callable[[ProviderName, Result, tuple[Tensor, ...] | None], Verdict]

    def cost(self, direction: Direction) -> Cost:
        """What a call in a direction must do at least."""
        if direction == "forward":
            return self.forward_cost
        if direction == "backward":
            return self.backward_cost
        return self.forward_cost + self.backward_cost


def sets_needed(device: torch.device, set_bytes: int) -> int:
    """How many sets of inputs there must be for none to be in a GPU's L2 cache when it is used.

    Together they are more than twice as large as the cache. One is enough on a CPU, whose steps
    find their inputs where the step before has left them.
    """
    if device.type != "cuda":
        return 1
    cache: int = torch.cuda.get_device_properties(device).L2_cache_size
    return min(2 * cache // max(set_bytes, 1) + 1, MOST_SETS)

"""What a call of the benchmark measures: operators, sizes, types, directions and providers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from dropdrift.benchmarks.kernels.cases.case import Case
from dropdrift.benchmarks.kernels.cases.denoiser import denoiser_case
from dropdrift.benchmarks.kernels.cases.mask_features import mask_features_case
from dropdrift.benchmarks.kernels.cases.mask_words import mask_words_case
from dropdrift.benchmarks.kernels.config import PROVIDERS, KernelOptions, ProviderName
from dropdrift.benchmarks.kernels.providers import can_run
from dropdrift.benchmarks.kernels.record import Direction, Dtype, Op
from dropdrift.benchmarks.kernels.sizes import Size, parse_sizes

# Where no sizes or types are given. The CPU's matrix products are for 16 bits or 32.
SIZES = {"cpu": "cpu", "cuda": "training"}
TYPES: dict[str, tuple[Dtype, ...]] = {"cpu": ("float32", "bfloat16"), "cuda": ("bfloat16",)}

# Who computes operators without a matrix product, which has but one form and needs no tuning.
SIMPLE: tuple[ProviderName, ...] = ("eager", "compile", "dropdrift-torch", "dropdrift-triton")


@dataclass(frozen=True)
class PlannedCase:
    """A case that is not made yet.

    Attributes:
        op: which operator.
        size: see there; of some operators not all of it counts.
        dtype: of the tensors; of mask words none.
        providers: who is measured, in each direction.
    """

    op: Op
    size: Size
    dtype: Dtype
    providers: dict[Direction, tuple[ProviderName, ...]]

    def __str__(self) -> str:
        return f"{self.op} {self.size} {self.dtype}"

    def make(self, options: KernelOptions, device: torch.device) -> Case:
        """Make the case's tensors."""
        if self.op == "mask-words":
            return mask_words_case(self.size, options.seed, device)
        if self.op == "mask-features":
            return mask_features_case(self.size, self.dtype, options.seed, device)
        return denoiser_case(
            self.op, self.size, self.dtype, options.activation, options.seed, device
        )


def plan_cases(options: KernelOptions, device: torch.device) -> list[PlannedCase]:
    """All cases, each once.

    Raises:
        ValueError: there are none for the chosen providers and directions.
    """
    cases: dict[object, PlannedCase] = {}
    for op in options.ops():
        providers = _providers(op, options, device)
        for dtype in planned_dtypes(options, device):
            for size in parse_sizes(options.sizes or [SIZES[device.type]]):
                if providers:
                    identity = _identity(op, size, dtype)
                    cases.setdefault(identity, PlannedCase(op, size, dtype, providers))
    if not cases:
        raise ValueError(
            f"providers {', '.join(options.providers) or 'of all kinds'}: none computes "
            f"{', '.join(options.ops())} in direction {', '.join(options.direction)} on "
            f"{device.type}"
        )
    return list(cases.values())


def planned_dtypes(options: KernelOptions, device: torch.device) -> tuple[Dtype, ...]:
    """The types that are measured."""
    return options.dtype or TYPES[device.type]


def _providers(
    op: Op, options: KernelOptions, device: torch.device
) -> dict[Direction, tuple[ProviderName, ...]]:
    """In each direction that the operator has; directions without providers are left out."""
    chosen = {}
    for direction in options.direction:
        if op != "mask-words" or direction == "forward":
            names = tuple(_candidates(op, options, direction, device))
            if names:
                chosen[direction] = names
    return chosen


def _candidates(
    op: Op, options: KernelOptions, direction: Direction, device: torch.device
) -> Iterator[ProviderName]:
    for name in PROVIDERS if op in ("denoiser", "drop-and-denoise") else SIMPLE:
        if name in (options.providers or PROVIDERS) and can_run(name, direction, device):
            yield name


def _identity(op: Op, size: Size, dtype: Dtype) -> object:
    """What tells a case from others: of mask words the type and all widths do not count."""
    if op == "mask-words":
        return op, size.rows, size.fields
    if op == "mask-features":
        return op, size.rows, size.fields, dtype
    return op, size, dtype

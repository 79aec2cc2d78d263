"""A kernel as it would be launched, described well enough to compile it without a GPU."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Specimen:
    """One kernel in one configuration of its shape table.

    Attributes:
        name: unique and stable, such as ``denoise_forward bf16 z128 h256 sm_90``: budgets are kept
            by it.
        kernel: the function that ``triton.jit`` made.
        arguments: Triton type of each argument that is no constant, such as ``*bf16`` or ``i32``.
        constants: value of each ``tl.constexpr`` argument.
        divisible: arguments that are multiples of 16, pointers of 16 bytes.
        capability: 80 or 90, the GPU's compute capability times ten.
        warps: warps of a program.
        stages: stages of the software pipeline.
        tensor_cores: whether its matrix products must be tensor-core instructions (wgmma on 90,
            mma on 80).
    """

    name: str
    kernel: Any
    arguments: Mapping[str, str]
    constants: Mapping[str, Any]
    divisible: tuple[str, ...]
    capability: int
    warps: int
    stages: int
    tensor_cores: bool

"""Who computes an operator, where each can run, and what kind each is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from dropdrift.benchmarks.kernels.config import ProviderName, is_triton
from dropdrift.benchmarks.kernels.record import Direction
from dropdrift.kernels.backend import Backend
from dropdrift.training.compiler import missing_compiler

OURS = "dropdrift"


def family(name: str) -> str:
    """All of dropdrift's modes are one family; of the others each is its own."""
    return OURS if is_ours(name) else name


def is_ours(name: str) -> bool:
    """Whether it is one of dropdrift's modes."""
    return name.startswith(OURS)


def backend_of(name: ProviderName) -> Backend:
    """The backend of one of dropdrift's modes."""
    assert is_ours(name), name
    return "triton" if is_triton(name) else "torch"


def saves_hidden(name: ProviderName) -> bool:
    """Whether it keeps the hidden layer for the backward."""
    return name.endswith("-save")


def can_run(name: ProviderName, direction: Direction, device: torch.device) -> bool:
    """Whether there is something to measure: a CPU runs no Triton, a forward keeps nothing."""
    if is_triton(name) and device.type != "cuda":
        return False
    return not (saves_hidden(name) and direction == "forward")


def left_out(name: ProviderName, device: torch.device) -> str:
    """Why this machine cannot run a provider; empty if it can."""
    if name.startswith("compile") and (missing := missing_compiler(device)):
        return f"left out: torch.compile {missing}"
    return ""


def compiled(name: ProviderName, function: Callable[..., Any]) -> Callable[..., Any]:
    """``function`` as the providers ``compile`` and ``compile-max`` run it, others as it is.

    Without the CUDA graphs of max-autotune: they would copy inputs that are not always the same,
    and here every provider is captured in the same way.
    """
    if name == "compile":
        return torch.compile(function, dynamic=False)
    if name == "compile-max":
        return torch.compile(function, dynamic=False, mode="max-autotune-no-cudagraphs")
    return function

"""Which implementation an operator runs: Triton kernels, quick torch, or the reference.

Nothing is chosen at import: an operator asks :func:`resolve_backend` when it is called, with the
tensor that it is called with, and an explicit backend is taken or refused, never replaced.
"""

from __future__ import annotations

import os
from importlib.util import find_spec
from typing import Literal, cast, get_args

import torch
from torch import Tensor

Backend = Literal["triton", "torch", "reference"]
# How an operator's schema says "as resolve_backend finds best".
AUTOMATIC = ""

TRITON_DTYPES = (torch.float32, torch.bfloat16, torch.float16)


def resolve_backend(
    requested: str,
    tensor: Tensor,
    *,
    out_of_range: str | None = None,
    triton_is_faster: bool = True,
) -> Backend:
    """The backend that an operator runs on ``tensor``.

    Args:
        requested: a :data:`Backend`, or :data:`AUTOMATIC`.
        tensor: the operator's main argument, whose device and type decide.
        out_of_range: why the operator's Triton kernels do not take this call's sizes, if so.
        triton_is_faster: what the operator's shape table says of this call.

    Raises:
        ValueError: an unknown backend, or Triton where it cannot run.
    """
    check_backend(requested)
    if requested == AUTOMATIC:
        usable = tensor.is_cuda and triton_is_faster and not out_of_range
        return "triton" if usable and triton_problem(tensor) is None else "torch"
    if requested == "triton" and (problem := triton_problem(tensor) or out_of_range):
        raise ValueError(f"backend is 'triton', but {problem}")
    return cast(Backend, requested)


def check_backend(requested: str) -> None:
    """ValueError unless there is such a backend."""
    if requested != AUTOMATIC and requested not in get_args(Backend):
        raise ValueError(
            f"backend is {requested!r}, there are: {', '.join(map(repr, get_args(Backend)))}"
        )


def triton_problem(tensor: Tensor) -> str | None:
    """Why Triton kernels cannot run on ``tensor``; None if they can."""
    if find_spec("triton") is None:
        return "triton is not installed"
    if tensor.is_floating_point() and tensor.dtype not in TRITON_DTYPES:
        return f"its kernels take float32, bfloat16 and float16, not {_name(tensor.dtype)}"
    if interpreting():
        bfloat16 = tensor.dtype is torch.bfloat16
        return "its interpreter computes bfloat16 wrongly" if bfloat16 else None
    if not tensor.is_cuda:
        return f"the tensors are on {tensor.device}, and its kernels run on CUDA"
    return None


def interpreting() -> bool:
    """Whether Triton was asked to interpret its kernels on the CPU (TRITON_INTERPRET=1)."""
    return os.environ.get("TRITON_INTERPRET", "0").lower() in ("1", "true", "on", "yes", "y")


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")

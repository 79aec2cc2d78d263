"""Rows of all ranks together: what exact metrics over several ranks need.

Tensors travel as they are, without pickling. Lengths may differ between ranks and may be zero; the
number of columns and the type of the numbers may not.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor


def gather_rows_to(tensor: Tensor, rank: int = 0) -> Tensor | None:
    """The rows of all ranks, in the order of the ranks, on ``rank`` alone; None on the others.

    A collective of the default process group: every rank must call it. Without a process group
    the tensor is returned as it is.

    Args:
        tensor: [R, ...], R being this rank's own number of rows.
        rank: where the rows go.

    Returns:
        [sum of R over ranks, ...], on the device of ``tensor``.
    """
    if _world_size() == 1:
        return tensor
    lengths, padded = _padded(tensor)
    here = dist.get_rank() == rank
    parts = [torch.empty_like(padded) for _ in lengths] if here else None
    dist.gather(padded, parts, dst=rank)
    return _joined(parts, lengths).to(tensor.device) if parts is not None else None


def _padded(tensor: Tensor) -> tuple[list[int], Tensor]:
    """Number of rows of each rank, and the tensor with as many rows as the longest."""
    tensor = tensor.detach().to(_device_of_collectives(tensor))
    length = torch.tensor([len(tensor)], device=tensor.device)
    gathered = [torch.empty_like(length) for _ in range(_world_size())]
    dist.all_gather(gathered, length)
    lengths = [int(length) for length in gathered]
    padded = tensor.new_zeros((max(lengths), *tensor.shape[1:]))
    padded[: len(tensor)] = tensor
    return lengths, padded


def _joined(parts: list[Tensor], lengths: list[int]) -> Tensor:
    return torch.cat([part[:length] for part, length in zip(parts, lengths, strict=True)])


def _device_of_collectives(tensor: Tensor) -> torch.device:
    """NCCL takes tensors on a GPU only, and gloo all of its collectives only on the CPU."""
    backend = dist.get_backend()
    if backend == dist.Backend.NCCL and tensor.device.type != "cuda":
        return torch.device("cuda", torch.cuda.current_device())
    return torch.device("cpu") if backend == dist.Backend.GLOO else tensor.device


def _world_size() -> int:
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1

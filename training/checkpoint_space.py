"""The room that a checkpoint takes on a disk, and what is said where there is none."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed._shard.sharded_tensor.api import ShardedTensor
from torch.distributed.checkpoint.api import CheckpointException

# Besides its numbers, a tensor of a checkpoint takes 1.5 KB of torch's archive around it and 0.3 KB
# of metadata, and a table 2.3 KB of the sharding plan.
_SLACK_OF_A_TENSOR = 4096
_SLACK = 65_536


def bytes_to_write(tensors: Mapping[str, Any]) -> int:
    """Bytes that the checkpoint of ``tensors`` takes, with some slack; all ranks must call.

    Args:
        tensors: nested; this rank's parts of sharded ones, whole replicated ones.
    """
    size = count = 0
    for tensor in _leaves(tensors):
        if isinstance(tensor, ShardedTensor):
            shards = [shard.tensor for shard in tensor.local_shards()]
        else:
            shards = [tensor] if dist.get_rank() == 0 else []  # which alone writes it
        size += sum(shard.numel() * shard.element_size() for shard in shards)
        count += len(shards)
    total = torch.tensor([size, count])
    dist.all_reduce(total)
    size, count = total.tolist()
    return size + count * _SLACK_OF_A_TENSOR + _SLACK


def check_room(folder: Path, needed: int, step: int) -> None:
    """Refuse to begin the checkpoint of ``step`` where its ``needed`` bytes are not free.

    Raises:
        ValueError: naming the folder, what is needed and what is free.
    """
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise ValueError(
            f"{folder} has no room for the checkpoint of step {step}: it needs {needed:,} bytes, "
            f"and {free:,} are free; those before it stay: make room and go on with --resume"
        )


def failed_write(folder: Path, step: int, failure: BaseException) -> ValueError:
    """What to raise where the checkpoint of ``step`` was begun and could not be written."""
    cause, remedy = f"{type(failure).__name__}: {failure}", "go on with --resume"
    if isinstance(failure, OSError):
        cause, remedy = failure.strerror or str(failure), f"make room and {remedy}"
    elif "inline_container" in str(failure):
        # All that torch says where an archive's last part did not get onto the disk.
        cause, remedy = "a file was cut off", f"make room and {remedy}"
    free = shutil.disk_usage(folder).free
    return ValueError(
        f"the checkpoint of step {step} could not be written to {folder}: "
        f"{' '.join(cause.split())}, with {free:,} bytes free; those before it stay: {remedy}"
    )


def first_failure(error: CheckpointException) -> BaseException:
    """What went wrong, on the first rank where something did."""
    failures: list[BaseException] = [failure for failure, _ in error.failures.values()]
    return failures[0]


def _leaves(value: Any) -> Iterator[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _leaves(item)

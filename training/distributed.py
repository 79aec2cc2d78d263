"""The process group: one process by itself, or one of many under torchrun."""

from __future__ import annotations

import gc
import logging
import os
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch._C._distributed_c10d import HashStore

T = TypeVar("T")

# What gloo and the store say of a process that is no longer there.
_LOST = re.compile(r"(closed|reset) by peer|remote server shutdown")


class LostRankError(ValueError):
    """Another rank has ended, and that rank says why."""


@dataclass(frozen=True)
class Ranks:
    """This process among all processes of the run."""

    rank: int
    world_size: int
    ranks_per_node: int
    device: torch.device

    @property
    def nodes(self) -> int:
        """Machines.

        Raises:
            ValueError: not all have as many ranks, which no plan is made for.
        """
        if self.world_size % self.ranks_per_node:
            raise ValueError(
                f"{self.world_size} ranks are not {self.ranks_per_node} on each machine: start as "
                "many on all of them"
            )
        return self.world_size // self.ranks_per_node

    @property
    def is_first(self) -> bool:
        """Whether this process writes files and talks to the user."""
        return self.rank == 0


@contextmanager
def process_group(timeout: float) -> Iterator[Ranks]:
    """Join the process group that torchrun describes in the environment, or make one of one.

    Args:
        timeout: seconds after which a collective that does not end is an error.

    Raises:
        ValueError: there is no GPU for this process on a machine that has some.
        LostRankError: the block waited for a rank that has ended.
    """
    silence_expected_warnings()
    device = _device_of_rank(int(os.environ.get("LOCAL_RANK", "0")))
    if device.type == "cuda":
        torch.cuda.set_device(device)
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    if "RANK" in os.environ:
        dist.init_process_group(backend, timeout=timedelta(seconds=timeout))
    else:
        store = HashStore()
        dist.init_process_group(
            backend, store=store, rank=0, world_size=1, timeout=timedelta(seconds=timeout)
        )
    world_size = dist.get_world_size()
    try:
        yield Ranks(
            rank=dist.get_rank(),
            world_size=world_size,
            ranks_per_node=int(os.environ.get("LOCAL_WORLD_SIZE", str(world_size))),
            device=device,
        )
    except RuntimeError as error:
        if world_size > 1 and _LOST.search(str(error)):
            raise LostRankError("another rank has ended: see what it says") from error
        raise
    finally:
        dist.destroy_process_group()
        # Cycles may still hold the group, whose threads would be met by the end of the interpreter
        # while they give up a collective's tensors: that aborts the process.
        gc.collect()


def _device_of_rank(local_rank: int) -> torch.device:
    """The GPU of this machine's process ``local_rank``, or the CPU where there is no GPU."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    gpus = torch.cuda.device_count()
    if local_rank >= gpus:
        raise ValueError(
            f"process {local_rank} of this machine has no GPU, as there are only {gpus}: start "
            "no more processes than GPUs, or hide them with CUDA_VISIBLE_DEVICES= to use the CPU"
        )
    return torch.device("cuda", local_rank)


def silence_expected_warnings() -> None:
    """Silence what torchrec 1.8 and torch 2.13 say of each other; a user can do nothing for it."""
    for name in ("torchrec", "torch.fx._symbolic_trace"):
        logging.getLogger(name).setLevel(logging.ERROR)
    for message in (
        "Please use DTensor instead",
        "HeuristicalStorageReservation is known",
        "`broadcast_buffers` is deprecated",
    ):
        warnings.filterwarnings("ignore", message=message, category=FutureWarning)
    # Of replicated tables: their gradients are those of a plain table all the same, which a test
    # holds, and they have no sharding specification because they are not sharded.
    warnings.filterwarnings("ignore", message="fbgemm::dense_embedding_codegen_lookup_function")
    logging.getLogger().addFilter(_is_not_about_replicated_tables)


def _is_not_about_replicated_tables(record: logging.LogRecord) -> bool:
    return not str(record.msg).startswith("Sharding spec not found")


def on_first_rank(action: Callable[[], T]) -> T:
    """What ``action`` returns on the first rank, on every rank; every rank must call.

    What it raises as a user's mistake is raised on every rank, so that none waits for the first.

    Raises:
        ValueError: as ``action``.
        OSError: as ``action``.
    """
    outcome: list[Any] = [None, None]
    if dist.get_rank() == 0:
        try:
            outcome[0] = action()
        except (ValueError, OSError) as error:
            outcome[1] = error
    dist.broadcast_object_list(outcome)
    if outcome[1] is not None:
        raise outcome[1]
    result: T = outcome[0]
    return result


def all_ranks_agree(flag: bool) -> bool:
    """Whether ``flag`` is true on every rank; every rank must call."""
    verdict = torch.tensor([0 if flag else 1])
    dist.all_reduce(verdict)
    return int(verdict.item()) == 0

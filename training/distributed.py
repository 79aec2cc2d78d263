"""The process group: one process by itself, or one of many under torchrun."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch._C._distributed_c10d import HashStore


@dataclass(frozen=True)
class Ranks:
    """This process among all processes of the run."""

    rank: int
    world_size: int
    ranks_per_node: int
    device: torch.device

    @property
    def is_first(self) -> bool:
        """Whether this process writes files and talks to the user."""
        return self.rank == 0


@contextmanager
def process_group(timeout: float) -> Iterator[Ranks]:
    """Join the process group that torchrun describes in the environment, or make one of one.

    Args:
        timeout: seconds after which a collective that does not end is an error.
    """
    silence_expected_warnings()
    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    device = torch.device("cpu")
    if torch.cuda.is_available():
        device = torch.device("cuda", local_rank)
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
    finally:
        dist.destroy_process_group()


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


def all_ranks_agree(flag: bool) -> bool:
    """Whether ``flag`` is true on every rank; every rank must call."""
    verdict = torch.tensor([0 if flag else 1])
    dist.all_reduce(verdict)
    return int(verdict.item()) == 0

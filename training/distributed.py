"""The process group: one process by itself, or one of many under torchrun."""

from __future__ import annotations

import gc
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch._C._distributed_c10d import HashStore

from dropdrift.training.group.environment import (
    LaunchEnvironment,
    launch_environment,
    number_in,
)
from dropdrift.training.group.hangs import LostRankError, is_of_another, reason
from dropdrift.training.group.joining import connect, gather, store_connection
from dropdrift.training.group.members import Member, this_process
from dropdrift.training.group.rank_store import RankStore, StoreGoneError, StoreSilentError
from dropdrift.training.group.watch import Activity, Watch

T = TypeVar("T")

# Seconds that the rank with the group's store waits for the others to read why it ends.
_LAST_WORD = 3.0


@dataclass(frozen=True)
class Ranks:
    """This process among all processes of the run.

    Attributes:
        rank: its number.
        world_size: how many they are.
        ranks_per_node: how many of them are on each machine.
        device: what this one computes on.
        activity: what it says it is doing, which the others read where they wait in vain.
    """

    rank: int
    world_size: int
    ranks_per_node: int
    device: torch.device
    activity: Activity = field(default_factory=Activity, compare=False)

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
        timeout: seconds that a rank waits for another: to come, and in each collective.

    Raises:
        ValueError: there is no GPU for this process on a machine that has some, a variable of
            torchrun's is wrong, or ranks did not come.
        LostRankError: the block waited for a rank that has ended.
        HungRankError: the block waited for a rank that does not answer.
    """
    silence_expected_warnings()
    device = _device_of_rank(number_in("LOCAL_RANK", 0))
    if device.type == "cuda":
        torch.cuda.set_device(device)
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    here = launch_environment()
    if here is None:
        dist.init_process_group(
            backend, store=HashStore(), rank=0, world_size=1, timeout=timedelta(seconds=timeout)
        )
        ranks = Ranks(0, 1, number_in("LOCAL_WORLD_SIZE", 1), device)
    else:
        connect(backend, here, gather(here, timeout), timeout)
        ranks = Ranks(here.rank, here.world_size, here.ranks_per_node, device)
    try:
        with nullcontext() if here is None else _watched(here, ranks.activity, timeout):
            yield ranks
    finally:
        dist.destroy_process_group()
        # Cycles may still hold the group, whose threads would be met by the end of the interpreter
        # while they give up a collective's tensors: that aborts the process.
        gc.collect()


@contextmanager
def _watched(here: LaunchEnvironment, activity: Activity, timeout: float) -> Iterator[None]:
    """Turn the errors of a block that waits for other ranks into what those ranks did."""
    watch: Watch | None = None
    try:
        if here.world_size > 1:
            members = _members(here)
            # Named after these very processes: torchrun's store may be as old as the job.
            prefix = f"dropdrift/{members[0].host}/{members[0].process}/"
            watch = Watch(
                members, here.rank, RankStore(store_connection(here, timeout), prefix), activity
            )
        yield
    except Exception as error:
        if watch is None:
            if is_of_another(error):
                raise LostRankError(
                    "another rank has ended or stands still: see what it says"
                ) from error
            raise
        told = reason(watch, error, watch.members[0] if not here.agent_store else None)
        if here.has_store:
            _wait_for_the_others(watch)
        if told is error:
            raise
        raise told from error
    finally:
        if watch is not None:
            watch.leave()


def _members(here: LaunchEnvironment) -> list[Member]:
    members: list[Any] = [None] * here.world_size
    dist.all_gather_object(members, this_process(here.rank))
    return members


def _wait_for_the_others(watch: Watch) -> None:
    """Let the others read why this rank ends: the store ends with it."""
    with suppress(StoreGoneError, StoreSilentError):
        watch.wait_until_heard(_LAST_WORD)


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


def on_first_rank(action: Callable[[], T], group: dist.ProcessGroup | None = None) -> T:
    """What ``action`` returns on the first rank, on every rank; every rank must call.

    What it raises as a user's mistake is raised on every rank, so that none waits for the first.

    Args:
        action: what the first rank alone does.
        group: of all ranks, by which it is passed on; the default one without.

    Raises:
        ValueError: as ``action``; on the other ranks a plain one that says the same.
        OSError: as ``action``.
    """
    outcome: list[Any] = [None, None]
    mistake: Exception | None = None
    if dist.get_rank() == 0:
        try:
            outcome[0] = action()
        except OSError as error:
            mistake = outcome[1] = error
        except ValueError as error:
            # What a subclass is made of need not survive the way to the others: what it says does.
            mistake, outcome[1] = error, ValueError(str(error))
    dist.broadcast_object_list(outcome, src=0, group=group)
    mistake = mistake or outcome[1]
    if mistake is not None:
        raise mistake
    result: T = outcome[0]
    return result

"""How the processes of a group find each other, and which of them did not come."""

from __future__ import annotations

import socket
import time
from collections.abc import Sequence
from datetime import timedelta

import torch.distributed as dist
from torch._C._distributed_c10d import PrefixStore, TCPStore

from dropdrift.sharding.wording import listed
from dropdrift.training.group.environment import LaunchEnvironment
from dropdrift.training.group.members import this_process
from dropdrift.training.group.rank_store import (
    ANSWER,
    RankStore,
    StoreGoneError,
    StoreSilentError,
    within,
)

_POLL = 0.05  # seconds between two looks at who has come


def gather(here: LaunchEnvironment, timeout: float) -> TCPStore:
    """The group's store, as soon as every rank has come.

    Raises:
        ValueError: some have not come within ``timeout`` seconds; they are named.
    """
    deadline = time.monotonic() + timeout
    store = _opened(here, deadline, timeout)
    wanted = [f"there/{rank}" for rank in range(here.world_size)]
    try:
        ranks = RankStore(store, f"dropdrift/{here.attempt}/", timeout)
        ranks.put(wanted[here.rank], this_process(here.rank).host)
        while not ranks.has(wanted):
            if time.monotonic() > deadline:
                raise ValueError(_who_is_missing([ranks.get(name) for name in wanted], timeout))
            time.sleep(_POLL)
        ranks.close()
    except StoreGoneError:
        raise ValueError(
            f"what held the group's store, {_holder(here)}, has ended while the ranks gathered: "
            "see what it says"
        ) from None
    except StoreSilentError:
        raise ValueError(_silent(here)) from None
    return store


def connect(backend: str, here: LaunchEnvironment, store: TCPStore, timeout: float) -> None:
    """Make the process group of the ranks that have come.

    Raises:
        ValueError: they cannot connect to each other.
    """
    try:
        dist.init_process_group(
            backend,
            # Addresses of ranks that have ended would be taken for those of this attempt.
            store=PrefixStore(f"attempt/{here.attempt}/", store),
            rank=here.rank,
            world_size=here.world_size,
            timeout=timedelta(seconds=timeout),
        )
    except RuntimeError as error:
        first_line = str(error).partition("\n")[0]
        raise ValueError(
            "all ranks have come, but they do not connect to each other: see what the others say, "
            f"and whether GLOO_SOCKET_IFNAME names a network that all are on ({first_line})"
        ) from error


def store_connection(here: LaunchEnvironment, timeout: float) -> TCPStore:
    """Another connection to the store that :func:`gather` has opened.

    Raises:
        StoreGoneError: what held it has ended.
        StoreSilentError: it does not answer.
    """
    try:
        return _made(here, opens=False, timeout=timeout)
    except TimeoutError:
        raise StoreSilentError from None
    except RuntimeError as error:
        raise StoreGoneError from error


def _opened(here: LaunchEnvironment, deadline: float, timeout: float) -> TCPStore:
    """A connection to the store, which the first rank opens where torchrun has not."""
    if not here.has_store:
        while not _is_open(here):
            if time.monotonic() > deadline:
                raise ValueError(
                    f"{_holder(here)} has not come within {timeout:g} s: nothing answers at "
                    f"{here.address}:{here.port}, where its store would be (this is rank "
                    f"{here.rank} on {this_process(here.rank).host})"
                )
            time.sleep(_POLL)
    try:
        return _made(here, opens=here.has_store, timeout=timeout)
    except TimeoutError:
        raise ValueError(_silent(here)) from None
    except RuntimeError as error:
        first_line = str(error).partition("\n")[0]
        raise ValueError(
            f"the group's store at {here.address}:{here.port} cannot be opened: is MASTER_PORT "
            f"another program's? ({first_line})"
        ) from error


def _made(here: LaunchEnvironment, *, opens: bool, timeout: float) -> TCPStore:
    # torch asks the network for names on the way, which may take seconds; and for a store whose
    # process is stopped it waits for ever.
    return within(
        timeout + ANSWER,
        lambda: TCPStore(
            here.address,
            here.port,
            here.world_size,
            is_master=opens,
            timeout=timedelta(seconds=timeout),
            wait_for_workers=False,
            multi_tenant=True,
        ),
    )


def _is_open(here: LaunchEnvironment) -> bool:
    # torch would wait too, and write a page on every attempt.
    try:
        socket.create_connection((here.address, here.port), 1.0).close()
    except OSError:
        return False
    return True


def _holder(here: LaunchEnvironment) -> str:
    return "torchrun" if here.agent_store else "rank 0"


def _silent(here: LaunchEnvironment) -> str:
    return (
        f"{_holder(here)}, which holds the group's store, does not answer at "
        f"{here.address}:{here.port}: its process or its machine stands still"
    )


def _who_is_missing(hosts: Sequence[str | None], timeout: float) -> str:
    missing = [str(rank) for rank, host in enumerate(hosts) if host is None]
    came = [f"{rank} on {host}" for rank, host in enumerate(hosts) if host is not None]
    verb = "rank {} has" if len(missing) == 1 else "ranks {} have"
    return (
        f"{verb.format(listed(missing))} not come within {timeout:g} s; of {len(hosts)} ranks "
        f"there are {listed(came)}: see what the others say, or what keeps them"
    )

"""How the processes of a group find each other, and which of them did not come."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

import torch.distributed as dist
from torch._C._distributed_c10d import TCPStore

from dropdrift.training.members import this_process
from dropdrift.training.rank_store import (
    ANSWER,
    RankStore,
    StoreGoneError,
    StoreSilentError,
    within,
)

_POLL = 0.05  # seconds between two looks at who has come


@dataclass(frozen=True)
class Place:
    """Where torchrun, or whatever sets its variables, has put this process.

    Attributes:
        rank: number among all processes.
        world_size: how many they are.
        ranks_per_node: how many of them are on this machine.
        address: host that has the group's store.
        port: of that store.
        agent_store: whether torchrun has opened it, or else the first rank does.
    """

    rank: int
    world_size: int
    ranks_per_node: int
    address: str
    port: int
    agent_store: bool

    @property
    def has_store(self) -> bool:
        """Whether this process is the one to open the store."""
        return self.rank == 0 and not self.agent_store


def place() -> Place | None:
    """This process's place; None for one by itself.

    Raises:
        ValueError: a variable is not there or holds something else.
    """
    if "RANK" not in os.environ:
        return None
    rank, world_size = number_in("RANK"), number_in("WORLD_SIZE")
    if rank >= world_size:
        raise ValueError(
            f"the environment variable RANK is {rank}, must be less than WORLD_SIZE, which is "
            f"{world_size}"
        )
    return Place(
        rank,
        world_size,
        max(1, number_in("LOCAL_WORLD_SIZE", world_size)),
        _text_in("MASTER_ADDR"),
        number_in("MASTER_PORT"),
        os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True",
    )


def number_in(variable: str, default: int | None = None) -> int:
    """What an environment variable holds; ValueError if it is no number, or is not there."""
    if default is not None and variable not in os.environ:
        return default
    text = _text_in(variable)
    if not text.isdecimal():
        raise ValueError(
            f"the environment variable {variable} is {text!r}, must be a number: torchrun sets it"
        )
    return int(text)


def _text_in(variable: str) -> str:
    text = os.environ.get(variable, "")
    if not text:
        raise ValueError(
            f"the environment variable {variable} is not set, but RANK is: torchrun sets both, "
            "without torchrun unset RANK"
        )
    return text


def gather(here: Place, timeout: float) -> TCPStore:
    """The group's store, as soon as every rank has come.

    Raises:
        ValueError: some have not come within ``timeout`` seconds; they are named.
    """
    deadline = time.monotonic() + timeout
    store = _opened(here, deadline, timeout)
    wanted = [f"there/{rank}" for rank in range(here.world_size)]
    try:
        ranks = RankStore(store, "dropdrift/", timeout)
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


def connect(backend: str, here: Place, store: TCPStore, timeout: float) -> None:
    """Make the process group of the ranks that have come.

    Raises:
        ValueError: they cannot connect to each other.
    """
    try:
        dist.init_process_group(
            backend,
            store=store,
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


def store_connection(here: Place, timeout: float) -> TCPStore:
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


def _opened(here: Place, deadline: float, timeout: float) -> TCPStore:
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


def _made(here: Place, *, opens: bool, timeout: float) -> TCPStore:
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


def _is_open(here: Place) -> bool:
    # torch would wait too, and write a page on every attempt.
    try:
        socket.create_connection((here.address, here.port), 1.0).close()
    except OSError:
        return False
    return True


def _holder(here: Place) -> str:
    return "torchrun" if here.agent_store else "rank 0"


def _silent(here: Place) -> str:
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


def listed(items: Sequence[str], most: int = 8) -> str:
    """``items`` in a sentence, at most so many of them."""
    shown = list(items[:most])
    if len(items) > most:
        shown.append(f"{len(items) - most} more")
    return " and ".join([", ".join(shown[:-1]), shown[-1]] if len(shown) > 1 else shown)

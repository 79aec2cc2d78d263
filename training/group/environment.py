"""What torchrun tells each of its processes in environment variables."""

from __future__ import annotations

import os
from dataclasses import dataclass


@dataclass(frozen=True)
class LaunchEnvironment:
    """Where torchrun, or whatever sets its variables, has put this process.

    Attributes:
        rank: number among all processes.
        world_size: how many they are.
        ranks_per_node: how many of them are on this machine.
        address: host that has the group's store.
        port: of that store.
        agent_store: whether torchrun has opened it, or else the first rank does.
        attempt: how often torchrun had started the processes before, where the store is as old as
            the job; 0 where each attempt has its own.
    """

    rank: int
    world_size: int
    ranks_per_node: int
    address: str
    port: int
    agent_store: bool
    attempt: int

    @property
    def has_store(self) -> bool:
        """Whether this process is the one to open the store."""
        return self.rank == 0 and not self.agent_store


def launch_environment() -> LaunchEnvironment | None:
    """What the variables say; None for a process by itself.

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
    agent_store = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    return LaunchEnvironment(
        rank,
        world_size,
        max(1, number_in("LOCAL_WORLD_SIZE", world_size)),
        _text_in("MASTER_ADDR"),
        number_in("MASTER_PORT"),
        agent_store,
        # Without the store the nodes may count differently, and nothing is left of other attempts.
        number_in("TORCHELASTIC_RESTART_COUNT", 0) if agent_store else 0,
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

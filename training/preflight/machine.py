"""What a rank says of itself, and whether all ranks run the same versions."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from dropdrift.training.distributed import Ranks
from dropdrift.training.preflight.memory import available_memory

NONE = "none"


@dataclass(frozen=True)
class Machine:
    """A rank and what it runs on.

    Attributes:
        rank: of the whole group.
        host: name of its machine.
        process: its number there.
        device: that it trains on, such as cpu or cuda:0.
        device_name: of the GPU, or of the processor.
        free_memory: bytes, of the GPU or of the host; None where it cannot be read.
        versions: of python, dropdrift and the packages beneath, by name, with dropdrift's git
            revision where it runs from a checkout.
    """

    rank: int
    host: str
    process: int
    device: str
    device_name: str
    free_memory: int | None
    versions: Mapping[str, str]

    def __str__(self) -> str:
        return f"rank {self.rank} on {self.host}"


def this_machine(ranks: Ranks, origin: Mapping[str, Any]) -> Machine:
    """This rank's; ``origin`` is its provenance."""
    device = ranks.device
    on_gpu = device.type == "cuda"
    git = origin["git"]
    revision = {} if git is None else {"git revision": _revision(git)}
    return Machine(
        rank=ranks.rank,
        host=socket.gethostname(),
        process=os.getpid(),
        device=str(device),
        device_name=torch.cuda.get_device_name(device) if on_gpu else origin["hardware"]["cpu"],
        free_memory=torch.cuda.mem_get_info(device)[0] if on_gpu else available_memory(),
        versions={**origin["versions"], **revision},
    )


def check_versions(machines: Sequence[Machine]) -> None:
    """ValueError, in one line, naming the ranks whose versions are not those of the first."""
    first = machines[0]
    names = sorted({name for machine in machines for name in machine.versions})
    differing: dict[tuple[str, str, str], list[int]] = {}
    for machine in machines[1:]:
        for name in names:
            version = machine.versions.get(name, NONE)
            if version != first.versions.get(name, NONE):
                differing.setdefault((machine.host, name, version), []).append(machine.rank)
    if differing:
        told = [
            f"{numbered(ranks)} on {host} {'have' if len(ranks) > 1 else 'has'} {name} {version}, "
            f"{first} {first.versions.get(name, NONE)}"
            for (host, name, version), ranks in differing.items()
        ]
        raise ValueError(f"{'; '.join(told)}: install the same on all hosts")


def numbered(ranks: Iterable[int]) -> str:
    """``rank 3``, or ``ranks 3, 5-7``."""
    runs: list[list[int]] = []
    for rank in sorted(ranks):
        if runs and rank == runs[-1][-1] + 1:
            runs[-1].append(rank)
        else:
            runs.append([rank])
    texts = [str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs]
    several = len(runs) > 1 or len(runs[0]) > 1
    return f"rank{'s' if several else ''} {', '.join(texts)}"


def _revision(git: Mapping[str, Any]) -> str:
    return f"{git['revision'][:12]}{' with changes' if git['dirty'] else ''}"

"""Options of ``dropdrift plan``. Needs no torch, so that the command line's help is quick."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from dropdrift.sharding.config import PlanLimits
from dropdrift.training.config import RecipeConfig


@dataclass(frozen=True)
class PlanConfig(RecipeConfig):
    """What is planned, and for what machines.

    Attributes:
        nodes: Machines.
        gpus_per_node: Ranks of a machine: its GPUs, or its processes on a CPU; 0: as many as the
            hardware has.
        hardware: Preset, or YAML file, of the machines; none: sharding.hardware, whose 'auto' is
            the CPU here.
    """

    nodes: int = 1
    gpus_per_node: int = 0
    hardware: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, least in (("nodes", 1), ("gpus_per_node", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} is {getattr(self, name)}, must be at least {least}")


@dataclass(frozen=True)
class ShowConfig(PlanConfig):
    """A plan to look at.

    Attributes:
        json: File to write the plan and all its numbers to; - writes it to the terminal instead of
            the tables.
        html: File to write the page with pictures to.
    """

    json: Path | None = None
    html: Path | None = None
    limits: PlanLimits = field(default_factory=PlanLimits)


@dataclass(frozen=True)
class SaveConfig(PlanConfig):
    """A plan to train with.

    Attributes:
        out: File to write, which 'dropdrift train --plan' takes.
    """

    out: Path = Path("plan.json")
    limits: PlanLimits = field(default_factory=PlanLimits)

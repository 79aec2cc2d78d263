"""Options of ``dropdrift launch``. Needs neither torch nor TorchX, so that the help is quick."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

Scheduler = Literal["local_cwd", "slurm", "kubernetes", "docker"]

MOST_PORT = 65_535
# Four digits at most: TorchX takes minutes and gigabytes over a million nodes.
_SHAPE = re.compile(r"([1-9][0-9]{0,3})x([1-9][0-9]{0,3})")
# What Slurm, Kubernetes and Docker all take, with what they add to it.
_NAME = re.compile(r"[a-z]([a-z0-9-]{0,28}[a-z0-9])?")


@dataclass(frozen=True)
class Shape:
    """How many processes run.

    Attributes:
        nodes: Machines.
        processes: Processes of each machine; on GPUs each has one.
    """

    nodes: int
    processes: int

    @classmethod
    def parse(cls, text: str) -> Shape:
        """The shape that ``NODESxPROCESSES`` names; ValueError if it is written otherwise."""
        found = _SHAPE.fullmatch(text)
        if found is None:
            raise ValueError(
                f"-j is {text!r}, must be NODESxPROCESSES, such as 2x8: 2 nodes of 8 processes; "
                "at most 9999x9999"
            )
        return cls(int(found[1]), int(found[2]))


@dataclass(frozen=True)
class JobOptions:
    """What every command is launched with, by whatever scheduler.

    Attributes:
        recipe: Recipe of the command, or file of one: --recipe of train and bench, the CONFIG of
            plan.
        j: Nodes and processes of each, NODESxPROCESSES. On GPUs each process has one.
        hardware: Preset or YAML file of the nodes, as 'dropdrift plan' takes it: decides the GPUs
            and the memory that are asked for. Empty: none are asked for.
        cpus: CPU cores of a node to ask for; 0: one for each process. The loader wants more.
        mounts: What containers see of their hosts, each type=bind,src=PATH,dst=PATH[,readonly],
            type=volume,src=NAME,dst=PATH or type=device,src=PATH (Kubernetes and Docker).
        env: Environment variables of the job, each NAME=VALUE. No secrets: requests are stored
            where others read them.
        image: Image of the containers, which must hold Dropdrift (Kubernetes and Docker).
        name: Name of the job; empty: the command's.
        max_restarts: How often torchrun starts the processes again after one has failed; training
            then resumes from its newest checkpoint.
        max_requeues: How often the scheduler starts the whole job again (all but local_cwd).
        preflight: Check all ranks in the job before the command begins: versions, the bandwidth
            of what they exchange, who is slow (train and evaluate).
        join_timeout: Seconds that a node waits for the others to come.
        port: TCP port on the first node by which the nodes find each other; 0: a free one on
            local_cwd, one made from the job's number on Slurm, 29500 elsewhere.
    """

    recipe: str = ""
    j: str = "1x1"
    hardware: str = ""
    cpus: int = 0
    mounts: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    image: str = ""
    name: str = ""
    max_restarts: int = 0
    max_requeues: int = 0
    preflight: bool = False
    join_timeout: int = 600
    port: int = 0

    def __post_init__(self) -> None:
        Shape.parse(self.j)
        for name, least in (
            ("cpus", 0),
            ("max_restarts", 0),
            ("max_requeues", 0),
            ("join_timeout", 1),
            ("port", 0),
        ):
            if getattr(self, name) < least:
                raise ValueError(f"{name} is {getattr(self, name)}, must be at least {least}")
        if self.port > MOST_PORT:
            raise ValueError(f"port is {self.port}, must be at most {MOST_PORT}")
        if self.name and not _NAME.fullmatch(self.name):
            raise ValueError(
                f"name is {self.name!r}, must be at most 30 small letters, digits and dashes, a "
                "letter first and no dash last"
            )
        _ = self.environment

    @property
    def shape(self) -> Shape:
        """Nodes and processes."""
        return Shape.parse(self.j)

    @property
    def environment(self) -> dict[str, str]:
        """The variables of ``env``; ValueError where one has no name or no value."""
        pairs = [pair.partition("=") for pair in self.env]
        for name, equals, _ in pairs:
            if not (equals and name.isidentifier() and name.isascii()):
                raise ValueError(f"env has {name + equals!r}, must be NAME=VALUE")
        return {name: value for name, _, value in pairs}


@dataclass(frozen=True)
class LaunchConfig(JobOptions):
    """A launch.

    Attributes:
        scheduler: local_cwd: this machine, in this folder; the launch follows the logs and leaves
            with the job's exit code. The others are asked for a job, whose handle is printed.
        scheduler_args: Options of the scheduler, each KEY=VALUE, such as partition=gpu; 'torchx
            runopts' lists them. They overrule the section of the scheduler in .torchxconfig.
        dryrun: Print what the scheduler would be asked, and ask for nothing.
    """

    scheduler: Scheduler = "local_cwd"
    scheduler_args: tuple[str, ...] = ()
    dryrun: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        in_containers = self.scheduler in ("kubernetes", "docker")
        if in_containers and not self.image:
            raise ValueError(f"--scheduler {self.scheduler} needs an --image that holds Dropdrift")
        for name in ("image", "mounts"):
            if getattr(self, name) and not in_containers:
                raise ValueError(
                    f"--{name} is for containers, and --scheduler {self.scheduler} has none: the "
                    "job sees this machine's files"
                )
        if self.scheduler == "local_cwd" and self.max_requeues:
            raise ValueError("--max-requeues is for a cluster: local_cwd has --max-restarts")
        for pair in self.scheduler_args:
            if not all(pair.partition("=")):
                raise ValueError(f"scheduler_args has {pair!r}, must be KEY=VALUE")

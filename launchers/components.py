"""TorchX components of Dropdrift's commands.

``torchx run -s SCHEDULER launchers/components.py:train -j 2x8 --recipe RECIPE -- OPTIONS`` and
``dropdrift launch train -j 2x8 --recipe RECIPE -- OPTIONS`` ask for the same job. A component is a
pure function of its arguments; it raises ValueError where the command itself would refuse them.
"""

# TorchX makes flags and their help of each function's own signature and docstring: what components
# share cannot be said once. It reads annotations as they are at run time, and knows Dict, List and
# Optional of typing alone: so no annotations from __future__, and nothing newer.
# ruff: noqa: UP006, UP035, UP045
from typing import Any, Dict, List, Optional

from torchx.specs import AppDef

from dropdrift.launchers.launch.application import application
from dropdrift.launchers.launch.config import JobOptions


def train(
    *arguments: str,
    recipe: str = "",
    j: str = "1x1",
    hardware: str = "",
    cpus: int = 0,
    mounts: Optional[List[str]] = None,
    env: Optional[Dict[str, str]] = None,
    image: str = "",
    name: str = "train",
    max_restarts: int = 0,
    max_requeues: int = 0,
    preflight: bool = False,
    join_timeout: int = 600,
    port: int = 0,
) -> AppDef:
    """Train a model: dropdrift train under torchrun on every node.

    Args:
        arguments: options of dropdrift train, after --
        recipe: recipe, or file of one
        j: NODESxPROCESSES, such as 2x8; on GPUs each process has one
        hardware: preset or YAML file of the nodes, for the GPUs and memory to ask for
        cpus: cores of a node to ask for; 0: one for each process
        mounts: for containers, type=bind,src=PATH,dst=PATH[,readonly] or type=volume,...
        env: environment variables, NAME=VALUE,NAME=VALUE; no secrets
        image: for containers, an image that holds Dropdrift
        name: name of the job
        max_restarts: how often torchrun starts the processes again
        max_requeues: how often the scheduler starts the job again
        preflight: true to check all ranks in the job before the command begins
        join_timeout: seconds that a node waits for the others
        port: port of the rendezvous on the first node; 0: 29500, on Slurm by the job's number
    """
    return _application("train", locals())


def evaluate(
    *arguments: str,
    recipe: str = "",
    j: str = "1x1",
    hardware: str = "",
    cpus: int = 0,
    mounts: Optional[List[str]] = None,
    env: Optional[Dict[str, str]] = None,
    image: str = "",
    name: str = "evaluate",
    max_restarts: int = 0,
    max_requeues: int = 0,
    preflight: bool = False,
    join_timeout: int = 600,
    port: int = 0,
) -> AppDef:
    """Measure a trained model: dropdrift evaluate under torchrun on every node.

    Args:
        arguments: options of dropdrift evaluate, after --
        recipe: not of this command: a run has its own
        j: NODESxPROCESSES, such as 2x8; on GPUs each process has one
        hardware: preset or YAML file of the nodes, for the GPUs and memory to ask for
        cpus: cores of a node to ask for; 0: one for each process
        mounts: for containers, type=bind,src=PATH,dst=PATH[,readonly] or type=volume,...
        env: environment variables, NAME=VALUE,NAME=VALUE; no secrets
        image: for containers, an image that holds Dropdrift
        name: name of the job
        max_restarts: how often torchrun starts the processes again
        max_requeues: how often the scheduler starts the job again
        preflight: true to check all ranks in the job before the command begins
        join_timeout: seconds that a node waits for the others
        port: port of the rendezvous on the first node; 0: 29500, on Slurm by the job's number
    """
    return _application("evaluate", locals())


def preflight(
    *arguments: str,
    recipe: str = "",
    j: str = "1x1",
    hardware: str = "",
    cpus: int = 0,
    mounts: Optional[List[str]] = None,
    env: Optional[Dict[str, str]] = None,
    image: str = "",
    name: str = "preflight",
    max_restarts: int = 0,
    max_requeues: int = 0,
    join_timeout: int = 600,
    port: int = 0,
) -> AppDef:
    """Check all ranks of a job: dropdrift preflight under torchrun on every node.

    Args:
        arguments: options of dropdrift preflight, after --
        recipe: not of this command: it trains nothing
        j: NODESxPROCESSES, such as 2x8; on GPUs each process has one
        hardware: preset or YAML file of the nodes, for the GPUs and memory to ask for
        cpus: cores of a node to ask for; 0: one for each process
        mounts: for containers, type=bind,src=PATH,dst=PATH[,readonly] or type=volume,...
        env: environment variables, NAME=VALUE,NAME=VALUE; no secrets
        image: for containers, an image that holds Dropdrift
        name: name of the job
        max_restarts: how often torchrun starts the processes again
        max_requeues: how often the scheduler starts the job again
        join_timeout: seconds that a node waits for the others
        port: port of the rendezvous on the first node; 0: 29500, on Slurm by the job's number
    """
    return _application("preflight", locals())


def bench(
    *arguments: str,
    recipe: str = "",
    j: str = "1x1",
    hardware: str = "",
    cpus: int = 0,
    mounts: Optional[List[str]] = None,
    env: Optional[Dict[str, str]] = None,
    image: str = "",
    name: str = "bench",
    max_restarts: int = 0,
    max_requeues: int = 0,
    join_timeout: int = 600,
    port: int = 0,
) -> AppDef:
    """Run a benchmark: dropdrift bench on one process.

    Args:
        arguments: a benchmark and its options, after --
        recipe: recipe, or file of one, of benchmarks that have --recipe
        j: NODESxPROCESSES, such as 2x8; on GPUs each process has one
        hardware: preset or YAML file of the nodes, for the GPUs and memory to ask for
        cpus: cores of a node to ask for; 0: one for each process
        mounts: for containers, type=bind,src=PATH,dst=PATH[,readonly] or type=volume,...
        env: environment variables, NAME=VALUE,NAME=VALUE; no secrets
        image: for containers, an image that holds Dropdrift
        name: name of the job
        max_restarts: how often torchrun starts the processes again
        max_requeues: how often the scheduler starts the job again
        join_timeout: seconds that a node waits for the others
        port: port of the rendezvous on the first node; 0: 29500, on Slurm by the job's number
    """
    return _application("bench", locals())


def plan(
    *arguments: str,
    recipe: str = "",
    j: str = "1x1",
    hardware: str = "",
    cpus: int = 0,
    mounts: Optional[List[str]] = None,
    env: Optional[Dict[str, str]] = None,
    image: str = "",
    name: str = "plan",
    max_restarts: int = 0,
    max_requeues: int = 0,
    join_timeout: int = 600,
    port: int = 0,
) -> AppDef:
    """Make a sharding plan for the nodes of j and hardware: dropdrift plan on one process.

    Args:
        arguments: a subcommand of dropdrift plan and its options, after --
        recipe: the CONFIG that is planned
        j: NODESxPROCESSES, such as 2x8; on GPUs each process has one
        hardware: preset or YAML file of the nodes, for the GPUs and memory to ask for
        cpus: cores of a node to ask for; 0: one for each process
        mounts: for containers, type=bind,src=PATH,dst=PATH[,readonly] or type=volume,...
        env: environment variables, NAME=VALUE,NAME=VALUE; no secrets
        image: for containers, an image that holds Dropdrift
        name: name of the job
        max_restarts: how often torchrun starts the processes again
        max_requeues: how often the scheduler starts the job again
        join_timeout: seconds that a node waits for the others
        port: port of the rendezvous on the first node; 0: 29500, on Slurm by the job's number
    """
    return _application("plan", locals())


def _application(command: str, given: Dict[str, Any]) -> AppDef:
    """Of a component's arguments by name, as TorchX has read them."""
    arguments = given.pop("arguments")
    given["mounts"] = tuple(given["mounts"] or ())
    given["env"] = tuple(f"{name}={value}" for name, value in (given["env"] or {}).items())
    return application(command, arguments, JobOptions(**given))

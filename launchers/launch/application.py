"""What TorchX is asked to run: one of Dropdrift's commands under torchrun on every node."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Iterable, Sequence
from dataclasses import replace

from torchx.specs import AppDef, BindMount, DeviceMount, Role, VolumeMount, macros, parse_mounts

from dropdrift.launchers.launch.check import check_command
from dropdrift.launchers.launch.config import JobOptions
from dropdrift.launchers.launch.resources import node_resource
from dropdrift.launchers.launch.secrets import check_arguments, check_environment

DEFAULT_PORT = 29500  # torchrun's
# By this the script of a Slurm job tells its own port, so that two jobs may share a node.
PORT_VARIABLE = "DROPDRIFT_RENDEZVOUS_PORT"
NO_IMAGE = "none"
# By this torchrun knows how long its processes may save after SIGTERM; torch 2.11's is always 30 s.
# Less than the 120 s that Slurm's warning comes before the time limit; --env says otherwise.
SAVING_TIME = "TORCH_ELASTIC_SHUTDOWN_TIMEOUT"
SECONDS_TO_SAVE = 90

# Nothing of these is distributed, so that on one process torchrun would only hide how they end.
_ALONE = ("bench", "plan")
_WITHOUT_RECIPE = {"evaluate": "--run-folder has its own", "preflight": "it trains nothing"}
# Subcommands of plan that plan for one cluster, which -j and --hardware name.
_PLANNING = ("show", "explain", "save")


def application(command: str, arguments: Sequence[str], options: JobOptions) -> AppDef:
    """The application that runs ``dropdrift COMMAND ARGUMENTS``.

    Raises:
        ValueError: the command would refuse its arguments, the options contradict each other, or
            something looks like a secret.
    """
    arguments = _with_recipe(command, list(arguments), options.recipe)
    if options.preflight:
        arguments = _with_preflight(command, arguments)
    if command == "plan" and arguments[:1] and arguments[0] in _PLANNING:
        arguments, options = _planned_for(arguments, options)
    if command in _ALONE and options.j == "1x1" and options.max_restarts:
        raise ValueError(f"--max-restarts is torchrun's, and {command} runs without it")
    resource = node_resource(options)
    check_command(command, arguments, options.shape.nodes * options.shape.processes)
    check_arguments(arguments)
    environment = {
        "OMP_NUM_THREADS": str(max(1, resource.cpu // options.shape.processes)),
        # The folder that a job starts in may hold modules of any name.
        "PYTHONSAFEPATH": "1",
        "PYTHONUNBUFFERED": "1",
        # Warnings are of the store, which goes with the first process that ends.
        "TORCH_CPP_LOG_LEVEL": "ERROR",
        SAVING_TIME: str(SECONDS_TO_SAVE),
        # Nodes count restarts differently: workers that share the store of the rendezvous would not
        # meet again, nor be told from those of the attempt before.
        "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1",
        **options.environment,
    }
    check_environment(environment)
    if not environment[SAVING_TIME].isdecimal():
        raise ValueError(f"env has {SAVING_TIME}={environment[SAVING_TIME]}, must be whole seconds")
    role = Role(
        name=command,
        image=options.image or NO_IMAGE,
        entrypoint="bash",
        args=["-c", shell_command(command, arguments, options)],
        env={name: _literal(value) for name, value in environment.items()},
        num_replicas=options.shape.nodes,
        max_retries=options.max_requeues,
        resource=resource,
        port_map={"c10d": options.port or DEFAULT_PORT},
        mounts=_mounts(options.mounts),
    )
    return AppDef(name=options.name or command, roles=[role])


def shell_command(command: str, arguments: Sequence[str], options: JobOptions) -> str:
    """The line that bash runs on every node, with TorchX's macros still in it."""
    shape = options.shape
    # An image has a Python of its own; elsewhere the job sees this one.
    python = "python" if options.image else sys.executable
    if command in _ALONE and options.j == "1x1":
        return " ".join(map(_quoted, ["exec", python, "-m", "dropdrift", command, *arguments]))
    wait = f"join_timeout={options.join_timeout},read_timeout={options.join_timeout}"
    if shape.nodes == 1:
        endpoint = "localhost:0"
    else:
        port = options.port or f"$${{{PORT_VARIABLE}:-{DEFAULT_PORT}}}"
        endpoint = f'"$${{{macros.rank0_env}:-localhost}}:{port}"'
        # On Slurm the first task is on the first node, by whatever name that goes.
        wait = f'"{wait}$${{SLURM_PROCID:+,is_host=$$((SLURM_PROCID == 0))}}"'
    torchrun = [
        f"exec {_quoted(python)} -m dropdrift.launchers.torchrun",
        f"--nnodes={shape.nodes}",
        f"--nproc-per-node={shape.processes}",
        "--rdzv-backend=c10d",
        f"--rdzv-endpoint={endpoint}",
        f"--rdzv-id={macros.app_id}",
        f"--rdzv-conf={wait}",
        f"--max-restarts={options.max_restarts}",
        # After "--" torchrun takes nothing for an option of its own, such as --run for --run-path.
        "-m -- dropdrift",
    ]
    return " ".join([*torchrun, *map(_quoted, [command, *arguments])])


def _quoted(argument: str) -> str:
    """For the shell, and safe from TorchX's macros."""
    return _literal(shlex.quote(argument))


def _literal(text: str) -> str:
    """What TorchX's substitution of macros turns into ``text``."""
    return text.replace("$", "$$")


def _with_recipe(command: str, arguments: list[str], recipe: str) -> list[str]:
    if not recipe:
        return arguments
    if command in _WITHOUT_RECIPE:
        raise ValueError(
            f"recipe is {recipe!r}, and {command} has none: {_WITHOUT_RECIPE[command]}"
        )
    if command == "plan":
        return [*arguments[:1], recipe, *arguments[1:]]
    named = bool(arguments) and not arguments[0].startswith("-")  # a benchmark
    return [*arguments[:named], "--recipe", recipe, *arguments[named:]]


def _with_preflight(command: str, arguments: list[str]) -> list[str]:
    if command not in ("train", "evaluate"):
        raise ValueError(
            f"--preflight is for train and evaluate, which several ranks run, and not for {command}"
        )
    return [*arguments, "--preflight"]


def _planned_for(arguments: list[str], options: JobOptions) -> tuple[list[str], JobOptions]:
    """The plan's own options for the cluster, and the one process on a CPU that makes it."""
    shape = options.shape
    cluster = ["--nodes", str(shape.nodes), "--gpus-per-node", str(shape.processes)]
    if options.hardware:
        cluster += ["--hardware", options.hardware]
    return [*arguments, *cluster], replace(options, j="1x1", hardware="")


def _mounts(mounts: Iterable[str]) -> list[BindMount | VolumeMount | DeviceMount]:
    texts = [part for mount in mounts for part in mount.split(",")]
    try:
        return parse_mounts(texts)
    except (KeyError, ValueError) as error:
        raise ValueError(
            f"mounts is {' '.join(mounts)!r}: {error.args[0]}; each is type=bind,src=PATH,dst=PATH"
            "[,readonly], type=volume,src=NAME,dst=PATH or type=device,src=PATH"
        ) from error

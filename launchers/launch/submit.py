"""``dropdrift launch`` of a command: ask a scheduler for a job, or show how."""

from __future__ import annotations

import dataclasses
import socket
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from dropdrift.launchers.launch.config import JobOptions, LaunchConfig
from dropdrift.launchers.launch.torchx_installed import require_torchx
from dropdrift.launchers.options import parse_config

if TYPE_CHECKING:
    from torchx.runner import Runner
    from torchx.specs import AppDef

# What this command calls TorchX's local_docker.
BACKENDS = {"docker": "local_docker"}


def run(command: str, arguments: Sequence[str]) -> int:
    """Launch ``dropdrift COMMAND``; the exit code of the job where it runs here, else 0.

    Raises:
        ValueError: wrong options, of the launch or of the command, or the scheduler refuses.
    """
    own, of_command = _divided(arguments)
    config = _config(command, own, divided="--" in arguments)
    require_torchx()
    from dropdrift.launchers.launch.runner import dropdrift_runner

    with dropdrift_runner() as runner:
        backend = BACKENDS.get(config.scheduler, config.scheduler)
        if config.scheduler == "local_cwd" and config.port == 0:
            config = dataclasses.replace(config, port=_free_port())
        return _launch(runner, backend, _application(command, of_command, config), config)


def _config(command: str, own: Sequence[str], *, divided: bool) -> LaunchConfig:
    try:
        return parse_config(
            LaunchConfig,
            own,
            prog=f"dropdrift launch {command}",
            description=(
                f"Launch dropdrift {command} by TorchX. The command's own options come after --, "
                "and are checked before anything is asked for. -j is short for --j."
            ),
        )
    except ValueError as error:
        if divided or not str(error).startswith("unknown option"):
            raise
        raise ValueError(f"{error}; options of {command} itself come after --") from error


def _launch(runner: Runner, backend: str, app: AppDef, config: LaunchConfig) -> int:
    from dropdrift.launchers.launch.runner import scheduler_options, users_mistakes
    from dropdrift.launchers.launch.secrets import redacted

    with users_mistakes(backend):
        options = scheduler_options(runner, backend, config.scheduler_args)
        request = runner.dryrun(app, backend, options)
    if config.dryrun:
        print(redacted(str(request)).rstrip())
        return 0
    if config.scheduler == "local_cwd":
        from dropdrift.launchers.launch.follow import run_here

        return run_here(runner, request)
    with users_mistakes(backend):
        handle = runner.schedule(request)
    print(handle)
    for what in ("status", "log", "cancel"):
        print(f"  dropdrift launch {what} {handle}")
    return 0


def _application(command: str, arguments: Sequence[str], config: LaunchConfig) -> AppDef:
    from dropdrift.launchers.launch.application import application

    names = [field.name for field in dataclasses.fields(JobOptions)]
    options: dict[str, Any] = {name: getattr(config, name) for name in names}
    return application(command, arguments, JobOptions(**options))


def _divided(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """The launch's own arguments, and the command's after the first ``--``."""
    arguments = list(arguments)
    end = arguments.index("--") if "--" in arguments else len(arguments)
    own = []
    for argument in arguments[:end]:
        if argument.startswith("-j"):  # -j 2x8, -j2x8 and -j=2x8
            rest = argument[2:].removeprefix("=")
            own += ["--j", rest] if rest else ["--j"]
        else:
            own.append(argument)
    return own, arguments[end + 1 :]


def _free_port() -> int:
    """A TCP port that nothing listens on, for the nodes of a job on this machine."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
    return port

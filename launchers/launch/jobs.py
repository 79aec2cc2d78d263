"""``dropdrift launch status|log|cancel HANDLE``: of a job that a scheduler has taken."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dropdrift.launchers.launch.lines import LinePrinter
from dropdrift.launchers.launch.torchx_installed import require_torchx
from dropdrift.launchers.options import parse_config

if TYPE_CHECKING:
    from torchx.runner import Runner

_HANDLE = re.compile(r"slurm://[^/]*/[0-9]+|(kubernetes|local_docker)://[^/]*/[^/-][^/]*")

SUCCEEDED, FAILED = 0, 1


@dataclass(frozen=True)
class JobConfig:
    """Options of status and cancel: none."""


@dataclass(frozen=True)
class LogConfig:
    """What is shown of the logs.

    Attributes:
        follow: Go on until the job has ended.
        nodes: Numbers of the nodes; empty: all.
    """

    follow: bool = False
    nodes: tuple[int, ...] = ()


def run(name: str, arguments: Sequence[str]) -> int:
    """Tell of a job, or end it.

    Returns:
        0; 1 for the status of a job that has failed or was cancelled.

    Raises:
        ValueError: the handle is wrong, or the scheduler knows no such job.
    """
    arguments = list(arguments)
    handle = arguments.pop(0) if arguments and not arguments[0].startswith("-") else ""
    config = parse_config(
        LogConfig if name == "log" else JobConfig,
        arguments,
        prog=f"dropdrift launch {name} HANDLE",
        description=f"{_ABOUT[name]} HANDLE is what 'dropdrift launch' printed.",
    )
    if not _HANDLE.fullmatch(handle):
        raise ValueError(
            f"launch {name} needs the HANDLE that 'dropdrift launch' printed, such as "
            f"slurm://dropdrift/1234; found {handle!r}"
        )
    require_torchx()
    from dropdrift.launchers.launch.runner import dropdrift_runner, users_mistakes

    with dropdrift_runner() as runner, users_mistakes(handle.split("://")[0]):
        if isinstance(config, LogConfig):
            return _log(runner, handle, config)
        return _ACTIONS[name](runner, handle)


def _status(runner: Runner, handle: str) -> int:
    from torchx.specs import AppState

    status = runner.status(handle)
    if status is None:
        raise ValueError(f"{handle} is not known any more")
    detail = "" if status.msg in ("", "<NONE>", status.state.name) else f" ({status.msg})"
    restarts = f", requeued {status.num_restarts} times" if status.num_restarts > 0 else ""
    print(f"{handle}: {status.state.name}{detail}{restarts}")
    return FAILED if status.state in (AppState.FAILED, AppState.CANCELLED) else SUCCEEDED


def _cancel(runner: Runner, handle: str) -> int:
    status = runner.status(handle)
    if status is None:
        raise ValueError(f"{handle} is not known any more")
    if status.is_terminal():
        print(f"{handle} has ended: {status.state.name}")
    else:
        runner.cancel(handle)
        print(f"{handle}: asked to end")
    return SUCCEEDED


def _log(runner: Runner, handle: str, config: LogConfig) -> int:
    app = runner.describe(handle)
    if app is None or not app.roles:
        raise ValueError(f"{handle} is not known any more{_where_logs_are(handle)}")
    role = app.roles[0]
    nodes = config.nodes or tuple(range(role.num_replicas))
    for node in nodes:
        if node not in range(role.num_replicas):
            raise ValueError(f"nodes has {node}, and {handle} has 0 to {role.num_replicas - 1}")
    follow = config.follow
    logs = [runner.log_lines(handle, role.name, node, should_tail=follow) for node in nodes]
    LinePrinter(logs, nodes).wait()
    return SUCCEEDED


def _where_logs_are(handle: str) -> str:
    return (
        ": its logs are in runs/slurm, or the log_dir that it was launched with"
        if handle.startswith("slurm:")
        else ""
    )


_ABOUT = {
    "status": "How a job stands.",
    "log": "What the nodes of a job have said.",
    "cancel": "End a job.",
}
_ACTIONS: dict[str, Callable[[Runner, str], int]] = {"status": _status, "cancel": _cancel}

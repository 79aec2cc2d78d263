"""A job on this machine: its logs as they come, and its exit code."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dropdrift.launchers.launch.lines import print_lines

if TYPE_CHECKING:
    from torchx.runner import Runner
    from torchx.specs import AppDryRunInfo, AppHandle

SIGNALLED = 128  # plus the signal's number is what a shell reports


def run_here(runner: Runner, request: AppDryRunInfo[Any]) -> int:
    """Run a request of local_cwd to its end, with its logs on this terminal.

    Returns:
        0 if all nodes have succeeded; else the exit code of the first that failed; 128 and the
        signal's number where it, or this command, was ended by one.
    """
    from torchx.schedulers.local_scheduler import SignalException

    try:
        handle = runner.schedule(request)
        role = request._app.roles[0]
        nodes = range(role.num_replicas)
        logs = [runner.log_lines(handle, role.name, node, should_tail=True) for node in nodes]
        print_lines(logs, nodes)  # to the end of the job
        runner.wait(handle, wait_interval=0.1)
    except SignalException as error:
        return SIGNALLED + error.sigval  # leaving the runner ends the processes
    return _exit_code(runner, handle)


def _exit_code(runner: Runner, handle: AppHandle) -> int:
    """Of the nodes' processes, which TorchX's status of a job leaves out."""
    backend, app_id = handle.split("://")[0], handle.rsplit("/", 1)[1]
    nodes = runner._scheduler(backend)._apps[app_id].role_replicas
    codes = [replica.proc.returncode for replicas in nodes.values() for replica in replicas]
    failed: int = next((code for code in codes if code), 0)
    return failed if failed >= 0 else SIGNALLED - failed

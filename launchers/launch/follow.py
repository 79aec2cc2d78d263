"""A job on this machine: its logs as they come, its exit code, and none of it left behind."""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path
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

    silent = threading.Event()
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as nohup has it
        # The terminal is closed: TorchX knows of SIGINT and SIGTERM alone.
        signal.signal(signal.SIGHUP, signal.getsignal(signal.SIGTERM))
    try:
        handle = runner.schedule(request)
        role = request._app.roles[0]
        nodes = range(role.num_replicas)
        logs = [runner.log_lines(handle, role.name, node, should_tail=True) for node in nodes]
        print_lines(logs, nodes, silent)  # to the end of the job
        runner.wait(handle, wait_interval=0.1)
        code = _exit_code(runner, handle)
    except SignalException as error:
        # A second Ctrl-C would leave processes behind.
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        silent.set()  # torchrun's tracebacks would be of the signal
        sys.stderr.write(f"dropdrift: {error.sigval.name}: ending all processes\n")
        code = SIGNALLED + error.sigval
    runner.close()
    _kill_those_left(request)
    return code


def _exit_code(runner: Runner, handle: AppHandle) -> int:
    """Of the nodes' processes, which TorchX's status of a job leaves out."""
    backend, app_id = handle.split("://")[0], handle.rsplit("/", 1)[1]
    nodes = runner._scheduler(backend)._apps[app_id].role_replicas
    codes = [replica.proc.returncode for replicas in nodes.values() for replica in replicas]
    failed: int = next((code for code in codes if code), 0)
    return failed if failed >= 0 else SIGNALLED - failed


def _kill_those_left(request: AppDryRunInfo[Any]) -> None:
    """Kill what the job has started and SIGTERM has not ended.

    TorchX kills a torchrun after 10 seconds, which would itself have killed its workers after 30.
    They are known by the job's name in their environment, where the system shows that.
    """
    nodes = next(iter(request.request.role_params.values()))
    mark = f"TORCHX_JOB_ID={nodes[0].env['TORCHX_JOB_ID']}".encode()
    for environment in Path("/proc").glob("[0-9]*/environ"):
        try:
            if mark in environment.read_bytes().split(b"\0"):
                os.kill(int(environment.parent.name), signal.SIGKILL)
        except OSError:  # it has ended, or is another user's
            continue

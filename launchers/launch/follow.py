"""A job on this machine: its logs as they come, why it has ended, and none of it left behind."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dropdrift.launchers.failure import FILE, TELLER, Kind, ending, find, say, tell
from dropdrift.launchers.launch.application import SAVING_TIME
from dropdrift.launchers.launch.lines import LinePrinter
from dropdrift.training.signals import SIGNALLED

if TYPE_CHECKING:
    from torchx.runner import Runner
    from torchx.specs import AppDryRunInfo

# More than torchrun needs after the time that it gives its own processes.
_LONGER = 5.0
# For processes that are to end without saving, seconds.
_AT_ONCE = 3.0


def run_here(runner: Runner, request: AppDryRunInfo[Any]) -> int:
    """Run a request of local_cwd to its end, with its logs on this terminal.

    What failed first is said last, once. On SIGTERM the processes have the time to save that
    torchrun gives them, on Ctrl-C or where the terminal is closed none.

    Returns:
        0 if all nodes have succeeded; else the exit code of what failed first; 128 and the
        signal's number where it, or this command, was ended by one.
    """
    from torchx.schedulers.local_scheduler import SignalException

    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as nohup has it
        # The terminal is closed: TorchX knows of SIGINT and SIGTERM alone.
        signal.signal(signal.SIGHUP, signal.getsignal(signal.SIGTERM))
    job = _LocalJob(runner, request)
    try:
        job.start()
        job.wait()
        code = job.outcome()
    except SignalException as error:
        code = _ended_by(error.sigval, job)
    runner.close()
    job.kill_those_left()
    return code


def _ended_by(sent: signal.Signals, job: _LocalJob) -> int:
    """The job's exit code after a signal; its processes may be there still."""
    from torchx.schedulers.local_scheduler import SignalException

    if sent == signal.SIGTERM:
        _ignore(signal.SIGTERM, signal.SIGHUP)
        say(f"SIGTERM: up to {job.saving_time:g} s for the processes to save; Ctrl-C ends them now")
        try:
            if job.end(signal.SIGTERM, job.saving_time + _LONGER):
                return job.outcome()
        except SignalException as error:
            sent = error.sigval
    # A second Ctrl-C would leave processes behind.
    _ignore(signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    job.silence()  # what they say would be of the signal
    say(f"{sent.name}: ending all processes")
    job.end(signal.SIGINT, _AT_ONCE)  # which saves nothing
    job.kill_those_left()
    return SIGNALLED + sent


def _ignore(*numbers: signal.Signals) -> None:
    for number in numbers:
        signal.signal(number, signal.SIG_IGN)


class _LocalJob:
    """The processes of a request, one a node, each in a session of its own.

    Args:
        runner: TorchX's.
        request: of local_cwd, with one role.

    Attributes:
        saving_time: how long they may take to end after SIGTERM, seconds.
    """

    def __init__(self, runner: Runner, request: AppDryRunInfo[Any]) -> None:
        self._runner, self._request = runner, request
        (self._nodes,) = request.request.role_params.values()
        self.saving_time = float(self._nodes[0].env.get(SAVING_TIME, 0))
        self._handle = ""
        self._printer: LinePrinter | None = None

    def start(self) -> None:
        """Start them, and print what they say."""
        for node in self._nodes:
            node.env[TELLER] = str(os.getpid())
        self._handle = self._runner.schedule(self._request)
        role, numbers = self._request._app.roles[0].name, range(len(self._nodes))
        self._printer = LinePrinter(
            [self._runner.log_lines(self._handle, role, k, should_tail=True) for k in numbers],
            numbers,
        )

    def wait(self) -> None:
        """Wait for the end of all of them."""
        assert self._printer is not None, "the job has not been started"
        self._printer.wait()
        self._runner.wait(self._handle, wait_interval=0.1)

    def end(self, number: signal.Signals, seconds: float) -> bool:
        """Send them a signal; whether all have ended in that time, and what they said is printed.

        torchrun passes the signal on to its own processes.
        """
        if self._printer is None:
            return False
        processes, end = self._processes(), time.monotonic() + seconds
        for process in processes:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, number)
        for process in processes:
            try:
                process.wait(max(0.0, end - time.monotonic()))
            except subprocess.TimeoutExpired:
                return False
        self._printer.wait(_LONGER)
        return True

    def outcome(self) -> int:
        """The exit code of the processes, which have ended; says why where they have failed."""
        codes = [process.returncode for process in self._processes()]
        codes = [code if code >= 0 else SIGNALLED - code for code in codes]
        left = [find(Path(node.env[FILE])) for node in self._nodes]
        failures = sorted(filter(None, left), key=lambda failure: failure.order)
        # One that was killed could leave nothing, and the others only that they have lost it.
        killed = any(
            code > SIGNALLED and said is None for code, said in zip(codes, left, strict=True)
        )
        if any(codes) and failures and not (killed and failures[0].kind is Kind.LOST):
            tell(failures[0])
            return failures[0].exit_code
        failed = max(codes)
        if failed > SIGNALLED:
            say(f"node {codes.index(failed)} has ended by {ending(failed)}")
        return failed

    def silence(self) -> None:
        """Print nothing more of what they say."""
        if self._printer is not None:
            self._printer.silence()

    def kill_those_left(self) -> None:
        """Kill what they have started and SIGTERM has not ended.

        TorchX kills a torchrun after 10 seconds, which would itself have killed its workers later.
        They are known by the job's name in their environment, where the system shows that.
        """
        mark = f"TORCHX_JOB_ID={self._nodes[0].env['TORCHX_JOB_ID']}".encode()
        for environment in Path("/proc").glob("[0-9]*/environ"):
            try:
                if mark in environment.read_bytes().split(b"\0"):
                    os.kill(int(environment.parent.name), signal.SIGKILL)
            except OSError:  # it has ended, or is another user's
                continue

    def _processes(self) -> Sequence[subprocess.Popen[bytes]]:
        """Of the nodes, whose exit codes TorchX's status of a job leaves out."""
        backend, app_id = self._handle.split("://")[0], self._handle.rsplit("/", 1)[1]
        roles = self._runner._scheduler(backend)._apps[app_id].role_replicas
        return [replica.proc for replicas in roles.values() for replica in replicas]

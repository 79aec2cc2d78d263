"""torchrun's agent on a node, which knows which of its processes has failed first, and of what."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from torch.distributed.elastic.agent.server.api import (
    DEFAULT_ROLE,
    RunResult,
    WorkerGroup,
    WorkerState,
)
from torch.distributed.elastic.agent.server.local_elastic_agent import LocalElasticAgent
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ProcessFailure
from torch.distributed.elastic.rendezvous.api import RendezvousError
from torch.distributed.elastic.utils.store import barrier

from dropdrift.launchers.failure import Failure, Kind, find, say, tell
from dropdrift.training.signals import SIGNALLED

# How long a node that has failed waits for the others to know of it, seconds.
PATIENCE = 15.0
# How long ranks may take to find by themselves that the job has failed on another node, and how
# long they then have to end, seconds.
_FINDING, _ENDING = 5.0, 5
_KEY = "dropdrift/first-failure"


class OtherNodeError(Exception):
    """The job has failed on another node, and the ranks of this one have not found it."""


class ReportingAgent(LocalElasticAgent):
    """torch's agent, which keeps why its processes have failed.

    Attributes:
        failure: why the job has ended; None while it runs, and if it has succeeded.
    """

    failure: Failure | None = None
    _failed_elsewhere: float | None = None  # since when that is known
    _is_shared = False  # whether the first failure is known to all nodes, or is going to be

    def run(self, role: str = DEFAULT_ROLE) -> RunResult:
        """As torch's, which calls it once."""
        try:
            result: RunResult = super().run(role)
        except SignalException as error:
            self.failure = self.failure or self._signalled(error.sigval)
            raise
        except (OtherNodeError, RendezvousError) as error:
            if self._worker_group.state is not WorkerState.HEALTHY:
                raise  # the nodes have not met
            gone = "another node has ended: see its log"
            self.failure = self._of_all_nodes(Failure(Kind.LOST, gone, exit_code=1))
            raise OtherNodeError from error
        if self.failure is not None:
            # The job has ended: a scheduler that ends the rest of it changes nothing here.
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                signal.signal(number, signal.SIG_IGN)
            self.failure = self._of_all_nodes(self.failure)
        return result

    def _monitor_workers(self, worker_group: WorkerGroup) -> RunResult:
        ended = {worker.global_rank for worker in worker_group.workers if _has_ended(worker.id)}
        result = super()._monitor_workers(worker_group)
        if result.is_failed():
            ranks = worker_group.workers[0].world_size
            failures = [
                _failure(rank, ranks, failed, by_itself=rank in ended or not ended)
                for rank, failed in result.failures.items()
            ]
            self._report(sorted(failures, key=lambda failure: failure.order))
        elif result.state is WorkerState.HEALTHY and self._has_failed_elsewhere():
            self._shutdown_timeout = _ENDING
            raise OtherNodeError
        return result

    def _has_failed_elsewhere(self) -> bool:
        """Whether another node has failed so long ago that these ranks stand still."""
        group: Any = self._worker_group
        now = time.monotonic()
        with suppress(RuntimeError):  # the first node is gone, which the rendezvous will say
            waits = group.group_world_size > 1 and self._failed_elsewhere is None
            if waits and group.store.check([_KEY]):
                self._failed_elsewhere = now
        return self._failed_elsewhere is not None and now > self._failed_elsewhere + _FINDING

    def _report(self, failures: list[Failure]) -> None:
        """Of an attempt, the first failure first; it is said here if there is another attempt."""
        first = failures[0]
        others = {failure.message: failure for failure in failures if failure.kind < Kind.ENDED}
        others.pop(first.message, None)
        for other in others.values():
            say(other.line("failed as well"))
        restarts = self._worker_group.spec.max_restarts
        if self._remaining_restarts:
            again = restarts - self._remaining_restarts + 1
            tell(first, f"; starting again ({again} of {restarts})")
        else:
            self.failure = first

    def _signalled(self, number: signal.Signals) -> Failure:
        """Why the job has ended where this process was told to end it, and has ended its own."""
        group = self._worker_group
        left: Iterable[Failure | None] = ()
        if self._pcontext is not None and group.state is WorkerState.HEALTHY:
            left = [find(Path(path)) for path in self._pcontext.error_files.values()]
        found = [failure for failure in left if failure and failure.kind is not Kind.LOST]
        if found:
            return min(found, key=lambda failure: failure.order)
        message = f"ended by {number.name}"
        return Failure(Kind.ENDED, message, SIGNALLED + number)

    def _of_all_nodes(self, failure: Failure) -> Failure:
        """The first failure of the job: this node's, or what another node knows."""
        group: Any = self._worker_group
        # Where a node is gone, or does not know of the failure yet, its own is all there is.
        with suppress(RuntimeError):
            if group.group_world_size == 1:
                return failure
            if failure.kind is not Kind.LOST:
                group.store.set(_KEY, json.dumps(failure.as_mapping()))
            else:
                group.store.wait([_KEY], timedelta(seconds=PATIENCE))
                known = Failure.from_mapping(json.loads(group.store.get(_KEY)))
                failure = replace(known, traceback="") if known else failure
            self._is_shared = True
        return failure

    def wait_for_other_nodes(self) -> None:
        """Let them read the first failure: the first node has the store, which ends with it."""
        group: Any = self._worker_group
        if self._is_shared:
            with suppress(RuntimeError):
                barrier(group.store, group.group_world_size, f"{_KEY}/read/", PATIENCE)


def _failure(rank: int, ranks: int, failed: ProcessFailure, *, by_itself: bool) -> Failure:
    """Why a process has ended: what it has left, or what its exit code says."""
    left = Failure.from_mapping(failed.error_file_data)
    if left is not None:
        return left
    code = failed.exitcode if failed.exitcode >= 0 else SIGNALLED - failed.exitcode
    kind, message = Kind.SILENT, "see above what it has said"
    if failed.exitcode < 0 and not by_itself:
        kind, message, code = Kind.LOST, "another rank has failed: see the other nodes' logs", 1
    elif failed.exitcode == -signal.SIGKILL:
        kind, message = Kind.KILLED, "killed from outside, as the system does where memory runs out"
    elif failed.exitcode == -signal.SIGTERM:
        message = "ended from outside"
    elif failed.exitcode < 0 and failed.exitcode != -signal.SIGABRT:  # as C++ ends that lost a rank
        kind, message = Kind.KILLED, "it has crashed: see above what it has said"
    return Failure(kind, message, code, rank=rank, ranks=ranks, process=failed.pid)


def _has_ended(process: int) -> bool:
    """Whether a child has ended; it stays to be waited for."""
    try:
        options = os.WEXITED | os.WNOHANG | os.WNOWAIT
        return os.waitid(os.P_PID, process, options) is not None
    except ChildProcessError:  # it was waited for
        return True

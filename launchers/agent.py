"""torchrun's agent on a node, which knows which of its processes has failed first, and of what."""

from __future__ import annotations

import json
import os
import signal
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
from torch.distributed.elastic.utils.store import barrier

from dropdrift.launchers.failure import SIGNALLED, Failure, Kind, find, say, tell

# How long a node that has failed waits for what the others know of it, seconds.
PATIENCE = 5.0
_KEY = "dropdrift/first-failure"


class ReportingAgent(LocalElasticAgent):
    """torch's agent, which keeps why its processes have failed.

    Attributes:
        failure: why the job has ended; None while it runs, and if it has succeeded.
    """

    failure: Failure | None = None

    def run(self, role: str = DEFAULT_ROLE) -> RunResult:
        """As torch's, which calls it once."""
        try:
            result: RunResult = super().run(role)
        except SignalException as error:
            self.failure = self.failure or self._signalled(error.sigval)
            raise
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
        return result

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
        if group.group_world_size == 1:
            return failure
        store = group.store
        # Where a node is gone, or does not know of the failure yet, its own is all there is.
        with suppress(RuntimeError):
            if failure.kind is not Kind.LOST:
                store.set(_KEY, json.dumps(failure.as_mapping()))
            else:
                store.wait([_KEY], timedelta(seconds=PATIENCE))
                known = Failure.from_mapping(json.loads(store.get(_KEY)))
                failure = replace(known, traceback="") if known else failure
            # The first node has the store: it stays until the others have read it.
            barrier(store, group.group_world_size, f"{_KEY}/read/", PATIENCE)
        return failure


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

"""Runs on several processes: each imports torch once, and its end is not the others'."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Protocol

from dropdrift.training.worker import leave_with_parent

# Written into the environment of a worker unless the user has set it.
THREADS = "OMP_NUM_THREADS"


class Job(Protocol):
    """What a worker carries out; it must be picklable."""

    @property
    def log(self) -> Path:
        """File for what it says."""


@dataclass
class _Worker:
    process: BaseProcess
    connection: Connection[Any, Any]
    job: Any = None
    started: float = 0.0


class Watcher(Protocol):
    """Is told how the jobs get on."""

    def started(self, job: Any) -> None:
        """A worker has taken the job."""

    def ended(self, job: Any, seconds: float, failure: str) -> None:
        """It has ended; ``failure`` is why it came to nothing, else empty."""


def run_jobs(
    jobs: Sequence[Job], perform: Callable[[Any], None], workers: int, watcher: Watcher
) -> None:
    """Carry out all jobs, in order, ``workers`` at a time.

    A job that raises, or whose process dies, is told to the watcher and does not stop the others.

    Args:
        jobs: what to do.
        perform: does one; a function of a module, so that other processes find it.
        workers: processes.
        watcher: is told.
    """
    waiting = list(reversed(jobs))
    busy: list[_Worker] = []
    threads = max(1, len(os.sched_getaffinity(0)) // workers)
    try:
        busy = [_start(perform, threads) for _ in range(min(workers, len(waiting)))]
        for worker in busy:
            _give(worker, waiting.pop(), watcher)
        while busy:
            ready = wait([worker.connection for worker in busy])
            for worker in [w for w in busy if w.connection in ready]:
                failure = _answer(worker)
                watcher.ended(worker.job, time.monotonic() - worker.started, failure or "")
                alive = failure is None or worker.process.is_alive()
                if not (alive and waiting):
                    busy.remove(worker)
                    _stop(worker)
                if waiting:
                    if not alive:
                        busy.append(worker := _start(perform, threads))
                    _give(worker, waiting.pop(), watcher)
    finally:
        for worker in busy:
            worker.process.terminate()
            _stop(worker)


def _start(perform: Callable[[Any], None], threads: int) -> _Worker:
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_serve, args=(there, perform, threads), daemon=True)
    process.start()
    there.close()
    return _Worker(process, here)


def _give(worker: _Worker, job: Any, watcher: Watcher) -> None:
    worker.job, worker.started = job, time.monotonic()
    worker.connection.send(job)
    watcher.started(job)


def _answer(worker: _Worker) -> str | None:
    """Why the job has failed; None if it has not."""
    try:
        failure: str | None = worker.connection.recv()
    except (EOFError, ConnectionError):
        worker.process.join()
        code = worker.process.exitcode or 0
        cause = f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"
        memory = ", as when memory runs out" if -code == signal.SIGKILL else ""
        return f"its process {cause}{memory}"
    return failure


def _stop(worker: _Worker) -> None:
    worker.connection.close()
    worker.process.join()


def _serve(connection: Connection[Any, Any], perform: Callable[[Any], None], threads: int) -> None:
    """The worker: jobs until there are no more."""
    # Ctrl-C reaches all processes of a terminal; the first one ends the others.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    leave_with_parent()
    os.environ.setdefault(THREADS, str(threads))
    while True:
        try:
            job: Job = connection.recv()
        except EOFError:
            return
        connection.send(_attempt(perform, job))


def _attempt(perform: Callable[[Any], None], job: Job) -> str | None:
    """Do the job, its words and its traceback going into its log; returns why it has failed."""
    job.log.parent.mkdir(parents=True, exist_ok=True)
    with job.log.open("a", encoding="utf-8") as log:
        sys.stdout.flush()
        sys.stderr.flush()
        for descriptor in (1, 2):
            os.dup2(log.fileno(), descriptor)
        try:
            perform(job)
        except Exception as error:  # noqa: BLE001  # whatever it is, the other runs go on
            traceback.print_exc()
            sys.stderr.flush()
            mistake = isinstance(error, (ValueError, OSError))
            reason = str(error) if mistake else f"{type(error).__name__}: {error}"
            return " ".join(reason.split()) or type(error).__name__
        return None

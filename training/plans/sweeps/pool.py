"""Processes that plan: each has torch already, none outlives the one that asked for it."""

from __future__ import annotations

import gc
import multiprocessing
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing import forkserver, resource_tracker
from typing import TypeVar

from dropdrift.training.worker import leave_with_parent

T = TypeVar("T")
R = TypeVar("R")

# Carries out all tasks; yields the place of each with its result as soon as it is there.
Map = Callable[[Sequence[T]], Iterator[tuple[int, R]]]

# What takes seconds to import, once for all workers.
PRELOADED = "dropdrift.training.plans.request"


@contextmanager
def planner_pool(perform: Callable[[T], R], workers: int) -> Iterator[Map[T, R]]:
    """Yields what has ``perform`` done by ``workers`` processes, or here where that is one.

    An exception of ``perform`` is raised to whoever asks for the results; MemoryError where a
    process is ended from outside.

    Args:
        perform: does one task; picklable, as tasks and results are.
        workers: processes.
    """
    if workers == 1:
        yield lambda tasks: ((place, perform(task)) for place, task in enumerate(tasks))
        return
    before = set(multiprocessing.active_children())
    with _executor(workers) as executor:
        try:
            yield lambda tasks: _results([executor.submit(perform, task) for task in tasks])
        except BaseException:
            executor.shutdown(wait=False, cancel_futures=True)
            for process in set(multiprocessing.active_children()) - before:
                process.terminate()
            raise


def _executor(workers: int) -> ProcessPoolExecutor:
    """Workers are forked from a process that has imported torch and run nothing of it.

    Ctrl-C, which reaches all processes of a terminal, is for the first one alone: it ends them.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([PRELOADED])
    resource_tracker.ensure_running()  # which would lift the mask
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        forkserver.ensure_running()  # it and its workers inherit the mask
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    return ProcessPoolExecutor(workers, context, initializer=_begin)


def _begin() -> None:
    import torch

    torch.set_num_threads(1)
    # The planner copies much: what was imported need not be searched for garbage again and again.
    gc.freeze()
    leave_with_parent()


def _results(futures: list[Future[R]]) -> Iterator[tuple[int, R]]:
    places = {future: place for place, future in enumerate(futures)}
    try:
        for future in as_completed(futures):
            yield places[future], future.result()
    except BrokenProcessPool as error:
        raise MemoryError("a process that plans was ended, as when memory runs out") from error

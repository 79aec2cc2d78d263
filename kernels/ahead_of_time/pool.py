"""Specimens compiled side by side, in processes that interpret no kernels."""

from __future__ import annotations

import functools
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed

from dropdrift.kernels.ahead_of_time.collecting import CAPABILITIES, KERNELS, all_specimens
from dropdrift.kernels.ahead_of_time.compiling import compile_specimen
from dropdrift.kernels.ahead_of_time.resources import Failure, Resources
from dropdrift.kernels.specimen import Specimen


def compile_all(
    capabilities: Sequence[int] = CAPABILITIES,
    containing: str = "",
    package: str = KERNELS,
    progress: Callable[[int, int], None] | None = None,
) -> list[Resources | Failure]:
    """Compile specimens on all cores; Triton's cache makes a second time quick.

    Args:
        capabilities: of which GPUs.
        containing: only specimens with this in their name.
        package: where the kernels are.
        progress: told how many are done, of how many.

    Returns:
        In the order of :func:`~dropdrift.kernels.ahead_of_time.collecting.all_specimens`.
    """
    everything = (package, tuple(capabilities))
    workers = len(os.sched_getaffinity(0))
    context = multiprocessing.get_context("spawn")
    before = set(multiprocessing.active_children())
    with ProcessPoolExecutor(workers, context, initializer=_begin) as executor:
        try:
            # Asked of every worker, so that they import torch at the same time.
            asked = [executor.submit(_names, everything) for _ in range(workers)]
            names = [name for name in asked[0].result() if containing in name]
            futures = {executor.submit(_compile, everything, name): name for name in names}
            compiled = {}
            for future in as_completed(futures):
                compiled[futures[future]] = future.result()
                if progress:
                    progress(len(compiled), len(names))
        except BaseException:
            executor.shutdown(wait=False, cancel_futures=True)
            for process in set(multiprocessing.active_children()) - before:
                process.terminate()
            raise
    return [compiled[name] for name in names]


def _begin() -> None:
    """First of all in a worker, before anything imports triton, which reads this once."""
    os.environ.pop("TRITON_INTERPRET", None)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the first process ends the work
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None, "a worker has a parent"
    parent.join()
    os._exit(1)


@functools.cache
def _specimens(everything: tuple[str, tuple[int, ...]]) -> dict[str, Specimen]:
    package, capabilities = everything
    return {specimen.name: specimen for specimen in all_specimens(capabilities, package)}


def _names(everything: tuple[str, tuple[int, ...]]) -> list[str]:
    return list(_specimens(everything))


def _compile(everything: tuple[str, tuple[int, ...]], name: str) -> Resources | Failure:
    try:
        return compile_specimen(_specimens(everything)[name])
    except Exception as error:  # noqa: BLE001 - of a compiler: whatever it is, it is the result
        return Failure(name, _reason(error))


def _reason(error: BaseException) -> str:
    """Where and why, without the kernel's text, which Triton shows between the two."""
    while error.__cause__ is not None:  # the function that is called, not the one that calls it
        error = error.__cause__
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    where_and_why = dict.fromkeys([*lines[:1], *lines[-1:]])
    return f"{type(error).__name__}: {' '.join(where_and_why)}"

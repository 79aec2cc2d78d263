"""Making batches ahead of the step that takes them, in a background thread."""

from __future__ import annotations

import threading
from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Generic, TypeVar

import torch

from dropdrift.data.batch import Batch, SequenceBatch

T = TypeVar("T")
BatchKind = TypeVar("BatchKind", Batch, SequenceBatch)


def prefetch(
    batches: Generator[BatchKind, None, None], depth: int, *, pin: bool = False
) -> Generator[BatchKind, None, None]:
    """The batches, up to ``depth`` of them made ahead by a background thread.

    Args:
        batches: as :meth:`~dropdrift.data.loading.loader.Loader.batches` makes them.
        depth: how many; 0: none, and no thread.
        pin: put them into page-locked memory, for asynchronous copies to the current CUDA device.
    """
    return read_ahead(_pinned(batches, torch.cuda.current_device()) if pin else batches, depth)


def read_ahead(source: Generator[T, None, None], depth: int) -> Generator[T, None, None]:
    """The items of ``source``, up to ``depth`` of them made ahead by a background thread.

    What ``source`` raises is raised here, after the items before it. Closing this generator, or
    exhausting it, ends the thread and closes ``source``. With a depth of 0 there is no thread.
    """
    if depth == 0:
        yield from source
        return
    worker = _Worker(source, depth)
    try:
        while not isinstance(item := worker.next(), _End):
            yield item
    finally:
        worker.stop()
    if item.error is not None:
        raise item.error


def _pinned(
    batches: Generator[BatchKind, None, None], device: int
) -> Generator[BatchKind, None, None]:
    # Every thread has a current device of its own; left alone, it would be device 0.
    torch.cuda.set_device(device)
    with closing(batches):
        for batch in batches:
            yield batch.pin_memory()


@dataclass(frozen=True)
class _End:
    """What a worker puts after its last item: nothing more comes, or an error does."""

    error: BaseException | None = None


class _Worker(Generic[T]):
    """A thread that takes items from ``source``, at most ``depth`` ahead of ``next``."""

    def __init__(self, source: Generator[T, None, None], depth: int) -> None:
        self._source = source
        self._items: SimpleQueue[T | _End] = SimpleQueue()
        self._slots = threading.Semaphore(depth)
        self._stopped = False
        # A daemon, so that a program that ends by an error does not wait for it.
        self._thread = threading.Thread(target=self._run, name="prefetch", daemon=True)
        self._thread.start()

    def next(self) -> T | _End:
        """The next item, or the end; waits for it."""
        item = self._items.get()
        self._slots.release()
        return item

    def stop(self) -> None:
        """End the thread and wait until it has ended."""
        self._stopped = True
        self._slots.release()
        self._thread.join()

    def _run(self) -> None:
        try:
            with closing(self._source):
                self._slots.acquire()
                for item in self._source:
                    self._items.put(item)
                    self._slots.acquire()
                    if self._stopped:
                        return
        except BaseException as error:  # noqa: BLE001 - raised again where the items are taken
            self._items.put(_End(error))
        else:
            self._items.put(_End())

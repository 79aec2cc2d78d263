"""A connection to the group's store that never waits for long."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Generic, TypeVar

from torch._C._distributed_c10d import TCPStore

T = TypeVar("T")

# Seconds within which a store that is there answers, however busy its machine is.
ANSWER = 10.0


class StoreGoneError(Exception):
    """The process that held the store has ended."""


class StoreSilentError(Exception):
    """The store is there and does not answer."""


class RankStore:
    """Texts by name, which all ranks see.

    torch's own calls wait for ever for a store whose process is stopped, whatever their timeout,
    and write pages about one that has ended. So each is made by a thread of its own, which may be
    left behind, and only while a second connection says that the store is there.

    Args:
        store: a connection that nothing else uses.
        prefix: of all names.
        answer: seconds within which the store answers.

    Raises:
        StoreGoneError: there is nothing to connect to; as all methods.
        StoreSilentError: a method had no answer in time.
    """

    def __init__(self, store: TCPStore, prefix: str, answer: float = ANSWER) -> None:
        self._store, self._prefix, self._answer = store, prefix, answer
        self._lock = threading.Lock()
        self._unanswered: _Call[Any] | None = None
        try:
            self._line = socket.create_connection((store.host, store.port), answer)
        except OSError as error:
            raise StoreGoneError from error
        self._line.setblocking(False)

    def put(self, name: str, value: str) -> None:
        """Write ``value``, over whatever is there."""
        self._answered(lambda: self._store.set(self._prefix + name, value))

    def put_and_look(self, name: str, value: str, looked_for: Sequence[str]) -> list[str]:
        """Write ``value``; which of the names ``looked_for`` are there."""
        return self._answered(lambda: self._put_and_look(self._prefix + name, value, looked_for))

    def put_first(self, name: str, value: str) -> str:
        """What is written under ``name``: ``value`` if nothing was."""
        return self._answered(
            lambda: self._store.compare_set(self._prefix + name, "", value)
        ).decode()

    def has(self, names: Iterable[str]) -> bool:
        """Whether all ``names`` are there."""
        keys = [self._prefix + name for name in names]
        return self._answered(lambda: self._store.check(keys))

    def get(self, name: str) -> str | None:
        """What is written under ``name``."""
        if not self.has([name]):
            return None
        return self._answered(lambda: self._store.get(self._prefix + name)).decode()

    def close(self) -> None:
        """Let go of the second connection; every later call raises :class:`StoreGoneError`."""
        self._line.close()

    def _put_and_look(self, key: str, value: str, looked_for: Sequence[str]) -> list[str]:
        self._store.set(key, value)
        return [name for name in looked_for if self._store.check([self._prefix + name])]

    def _answered(self, action: Callable[[], T]) -> T:
        # One at a time: behind a call that has no answer there is none either.
        if not self._lock.acquire(timeout=self._answer):
            raise StoreSilentError
        try:
            self._check_line()
            if self._unanswered is not None and not self._unanswered.ends_within(0.0):
                raise StoreSilentError
            call = _Call(action)
            self._unanswered = None if call.ends_within(self._answer) else call
            if self._unanswered is not None:
                raise StoreSilentError
            return call.result()
        except RuntimeError as error:  # the store has ended this moment
            raise StoreGoneError from error
        finally:
            self._lock.release()

    def _check_line(self) -> None:
        try:
            if not self._line.recv(1):
                raise StoreGoneError
        except BlockingIOError:
            return  # nothing to read: it is open
        except OSError as error:
            raise StoreGoneError from error


def within(seconds: float, action: Callable[[], T]) -> T:
    """What ``action`` returns or raises, if it does so in time.

    Raises:
        TimeoutError: it does not. A thread is left behind, which ends with the process.
    """
    call = _Call(action)
    if not call.ends_within(seconds):
        raise TimeoutError
    return call.result()


class _Call(Generic[T]):
    """``action`` in a thread of its own."""

    def __init__(self, action: Callable[[], T]) -> None:
        self._action = action
        self._outcome: list[T] = []
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="store", daemon=True)
        self._thread.start()

    def ends_within(self, seconds: float) -> bool:
        """Whether it has ended after so many seconds at most."""
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def result(self) -> T:
        """What it returned; raises what it raised."""
        if self._error is not None:
            raise self._error
        return self._outcome[0]

    def _run(self) -> None:
        try:
            self._outcome.append(self._action())
        except BaseException as error:  # noqa: BLE001 - raised again where it is awaited
            self._error = error

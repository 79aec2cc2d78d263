"""How much of the exact answers an index finds, and how long it takes."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from dropdrift.training.retrieval.search import ItemSearch, Vectors, recall

T = TypeVar("T")

# A percentile of few calls says nothing: calls are repeated until there are so many, or until so
# many seconds have gone.
CALLS = 200
SECONDS = 1.0


@dataclass(frozen=True)
class Latency:
    """Milliseconds a user, over several calls.

    Attributes:
        median: of the calls.
        p99: the 99th percentile.
        calls: how many there were.
        users: of the largest call.
    """

    median: float
    p99: float
    calls: int
    users: int

    @staticmethod
    def of(calls: Sequence[tuple[float, int]]) -> Latency:
        """From the seconds of each call and how many users it answered."""
        each = [1000 * seconds / users for seconds, users in calls]
        return Latency(
            median=float(np.median(each)),
            p99=float(np.percentile(each, 99)),
            calls=len(calls),
            users=max(users for _, users in calls),
        )


@dataclass(frozen=True)
class Measured:
    """An index against exact search.

    Attributes:
        k: items of an answer.
        users: user vectors it was measured with.
        recall: share of the exact answers that the index finds.
        single: of the index, one user a call.
        batched: of the index, many users a call.
        exact_single: of exact search.
        exact_batched: of exact search.
        threads: that the search may use.
    """

    k: int
    users: int
    recall: float
    single: Latency
    batched: Latency
    exact_single: Latency
    exact_batched: Latency
    threads: int


def measure(
    search: ItemSearch,
    exact: ItemSearch,
    users: Vectors,
    *,
    k: int,
    batch_size: int,
    threads: int,
) -> Measured:
    """Ask an index and an exact one over the same items for the best of ``users`` [Q, W].

    What is to be found comes from numpy, the times to compare with from the flat index.
    """
    found, wanted = search.search(users, k), exact.exact(users, k)
    return Measured(
        k=min(k, search.items),
        users=len(users),
        recall=recall(found.rows, wanted.rows),
        single=_timed(search, users, k, 1),
        batched=_timed(search, users, k, batch_size),
        exact_single=_timed(exact, users, k, 1),
        exact_batched=_timed(exact, users, k, batch_size),
        threads=threads,
    )


def timed(call: Callable[..., T], *arguments: Any, **options: Any) -> tuple[T, float]:
    """What ``call`` returns and the seconds it took."""
    started = time.perf_counter()
    result = call(*arguments, **options)
    return result, time.perf_counter() - started


def repeated(call: Callable[[T], object], parts: Sequence[T], size: Callable[[T], int]) -> Latency:
    """Time ``call`` on the ``parts``, over and over; the first part is asked once before.

    Args:
        call: what is timed.
        parts: its arguments, at least one.
        size: how many users one of them holds.
    """
    call(parts[0])
    calls: list[tuple[float, int]] = []
    ends = time.perf_counter() + SECONDS
    while len(calls) < CALLS and (not calls or time.perf_counter() < ends):
        part = parts[len(calls) % len(parts)]
        calls.append((timed(call, part)[1], size(part)))
    return Latency.of(calls)


def _timed(search: ItemSearch, users: Vectors, k: int, size: int) -> Latency:
    whole = [users[start : start + size] for start in range(0, len(users), size)]
    parts = [part for part in whole if len(part) == size] or whole
    return repeated(lambda part: search.search(part, k), parts, len)

"""How much of the exact answers an index finds, and how long it takes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from dropdrift.training.retrieval.search import Found, ItemSearch, Vectors, recall

T = TypeVar("T")


@dataclass(frozen=True)
class Latency:
    """Milliseconds a user, over several calls.

    Attributes:
        median: of the calls.
        p99: the 99th percentile.
        calls: how many there were.
    """

    median: float
    p99: float
    calls: int

    @staticmethod
    def of(seconds: Iterable[float], users: Iterable[int]) -> Latency:
        """From the duration of each call and how many users it answered."""
        each = [1000 * s / u for s, u in zip(seconds, users, strict=True)]
        return Latency(float(np.median(each)), float(np.percentile(each, 99)), len(each))


@dataclass(frozen=True)
class Measured:
    """An index against exact search.

    Attributes:
        k: items of an answer.
        users: user vectors it was measured with.
        recall: share of the exact answers that the index finds.
        single: of the index, one user a call.
        batched: of the index, ``batch_size`` users a call.
        exact_single: of exact search.
        exact_batched: of exact search.
        batch_size: users of a batch.
        threads: that the search may use.
    """

    k: int
    users: int
    recall: float
    single: Latency
    batched: Latency
    exact_single: Latency
    exact_batched: Latency
    batch_size: int
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

    The first call of each is not measured.
    """
    found, batched = _timed(search, users, k, batch_size)
    wanted, exact_batched = _timed(exact, users, k, batch_size)
    return Measured(
        k=min(k, search.items),
        users=len(users),
        recall=recall(found.rows, wanted.rows),
        single=_timed(search, users, k, 1)[1],
        batched=batched,
        exact_single=_timed(exact, users, k, 1)[1],
        exact_batched=exact_batched,
        batch_size=batch_size,
        threads=threads,
    )


def timed(call: Callable[..., T], *arguments: Any, **options: Any) -> tuple[T, float]:
    """What ``call`` returns and the seconds it took."""
    started = time.perf_counter()
    result = call(*arguments, **options)
    return result, time.perf_counter() - started


def _timed(search: ItemSearch, users: Vectors, k: int, size: int) -> tuple[Found, Latency]:
    search.search(users[:size], k)
    parts = [users[start : start + size] for start in range(0, len(users), size)]
    answers = [timed(search.search, part, k) for part in parts]
    found = Found(
        np.concatenate([answer.rows for answer, _ in answers]),
        np.concatenate([answer.scores for answer, _ in answers]),
    )
    return found, Latency.of((seconds for _, seconds in answers), map(len, parts))

"""What ``prepare_interactions`` counts.

Shapes: N interactions, U users, I items.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dropdrift.data.interactions.ordering import OrderedInteractions

SHORT = 5
TOP_ITEMS = (1, 10, 100, 1000)


def sequence_statistics(
    sequences: OrderedInteractions, items: int, *, has_time: bool
) -> dict[str, Any]:
    """Sizes, lengths, repeats and times of ``sequences`` over a catalogue of ``items``.

    ``repeats`` are interactions with an item that the same user has met before, ``ties`` those of
    the same user and time as the one before.
    """
    lengths = np.diff(sequences.offsets)
    users, total = len(lengths), len(sequences.items)
    owners = np.repeat(np.arange(users, dtype=np.int64), lengths)
    pairs = _distinct(owners * items + sequences.items)
    statistics: dict[str, Any] = {
        "users": users,
        "items": items,
        "interactions": total,
        "density": pairs / (users * items),
        "lengths": _spread(lengths),
        f"users_below_{SHORT}": int((lengths < SHORT).sum()),
        "repeats": total - pairs,
        "time": None,
        "popularity": _popularity(np.bincount(sequences.items, minlength=items)),
    }
    if has_time:
        same_user = owners[1:] == owners[:-1]
        ties = same_user & (sequences.times[1:] == sequences.times[:-1])
        statistics["time"] = {
            "first": int(sequences.times.min()),
            "last": int(sequences.times.max()),
            "ties": int(ties.sum()),
        }
    return statistics


def _distinct(numbers: NDArray[np.int64]) -> int:
    """How many different numbers there are; sorts them in place."""
    numbers.sort()
    return 1 + int(np.count_nonzero(numbers[1:] != numbers[:-1]))


def _spread(numbers: NDArray[np.int64]) -> dict[str, float]:
    return {
        "min": int(numbers.min()),
        "median": float(np.median(numbers)),
        "mean": float(numbers.mean()),
        "p90": float(np.quantile(numbers, 0.9)),
        "max": int(numbers.max()),
    }


def _popularity(counts: NDArray[np.int64]) -> dict[str, Any]:
    """Interactions an item, and the share of all interactions that the most popular ones have."""
    running = np.cumsum(np.sort(counts)[::-1])
    top = {str(k): float(running[min(k, len(counts)) - 1] / running[-1]) for k in TOP_ITEMS}
    quantiles = {f"p{q}": float(np.quantile(counts, q / 100)) for q in (10, 50, 90, 99)}
    return {"min": int(counts.min()), **quantiles, "max": int(counts.max()), "top_share": top}

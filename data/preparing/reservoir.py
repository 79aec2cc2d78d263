"""A uniform sample of a stream of numbers in bounded memory."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


class Reservoir:
    """Holds up to ``capacity`` numbers of a stream, each with the same probability.

    Algorithm R (Vitter, "Random sampling with a reservoir", ACM TOMS 1985). All numbers are held
    as long as they are no more than ``capacity``.

    Args:
        capacity: numbers held.
        generator: the source of randomness.
    """

    def __init__(self, capacity: int, generator: np.random.Generator) -> None:
        # Pages that are never written take no memory.
        self._held = np.empty(capacity, dtype=np.float64)
        self._seen = 0
        self._generator = generator

    def add(self, numbers: NDArray[np.float64]) -> None:
        """Show it the next numbers of the stream, float64 [any length]."""
        capacity = len(self._held)
        free = max(0, min(capacity - self._seen, len(numbers)))
        self._held[self._seen : self._seen + free] = numbers[:free]
        rest = numbers[free:]
        ranks = np.arange(self._seen + free, self._seen + len(numbers))
        # Number r (from 0) replaces a held one with probability capacity / (r + 1).
        places = self._generator.integers(0, ranks + 1)
        chosen = places < capacity
        self._held[places[chosen]] = rest[chosen]
        self._seen += len(numbers)

    def sorted_sample(self) -> NDArray[np.float64]:
        """The numbers held, ascending."""
        return np.sort(self._held[: min(self._seen, len(self._held))])

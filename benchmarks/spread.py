"""The repetitions of a measurement."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Spread:
    """The repetitions of one measurement.

    Attributes:
        median: their median.
        lowest: the fastest or smallest one.
        highest: the slowest or largest one.
    """

    median: float
    lowest: float
    highest: float

    @staticmethod
    def of(values: Sequence[float]) -> Spread:
        """The spread of ``values``."""
        return Spread(statistics.median(values), min(values), max(values))

    def text(self, digits: int) -> str:
        """Median (lowest to highest) with so many decimals."""
        low, high = f"{self.lowest:,.{digits}f}", f"{self.highest:,.{digits}f}"
        return f"{self.median:,.{digits}f} ({low} to {high})"

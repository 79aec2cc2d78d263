"""How measured numbers are worded, on the terminal and on pages. Needs no torch."""

from __future__ import annotations

import math


def significant(value: float, digits: int) -> str:
    """``value`` with so many significant digits: all of those before the point, 4 after it."""
    if not value:
        return "0"
    decimals = digits - 1 - math.floor(math.log10(abs(value)))
    return f"{value:,.{min(max(decimals, 0), 4)}f}"

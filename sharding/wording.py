"""How amounts and lists of names are worded, wherever a plan is told of. Needs no torch."""

from __future__ import annotations

from collections.abc import Sequence

GIB = 1 << 30
# Names that a line has before it counts the rest.
NAMED = 8


def gib(amount: float) -> str:
    """Bytes as a number of GiB: three digits, none of them after the point from 100 on."""
    return digits(amount / GIB)


def digits(number: float) -> str:
    """Three digits, none of them after the point from 100 on; 0 for less than 0.0005."""
    size = abs(number)
    places = 0 if size >= 99.95 else 1 if size >= 9.995 else 2 if size >= 0.0995 else 3
    return f"{number:,.{places}f}" if size >= 0.0005 else "0"


def counted(count: int, what: str) -> str:
    """``1 rank``, ``2 ranks``."""
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def listed(names: Sequence[str], most: int = NAMED) -> str:
    """The first ``most`` names, and how many more there are."""
    more = len(names) - most
    return ", ".join(names[:most]) + (f" and {more} more" if more > 0 else "")

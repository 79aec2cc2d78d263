"""How long work says what it is at."""

from __future__ import annotations

from collections.abc import Callable

# Is told what is done next, or has just been done.
Advance = Callable[[str], None]


def silent(what: str) -> None:
    """An ``Advance`` for nobody."""
    del what

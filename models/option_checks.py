"""Checks that the models' options share. Needs no torch."""

from __future__ import annotations

import math


def at_least(name: str, value: float, lowest: float) -> None:
    """ValueError unless the option ``model.NAME`` is finite and not less than ``lowest``."""
    if not lowest <= value < math.inf:
        finite = "" if math.isfinite(value) else " and finite"
        raise ValueError(f"model.{name} is {value}, must be at least {lowest}{finite}")


def positive(name: str, value: float) -> None:
    """ValueError unless the option ``model.NAME`` is finite and more than 0."""
    if not 0 < value < math.inf:
        raise ValueError(f"model.{name} is {value}, must be positive and finite")


def share(name: str, value: float) -> None:
    """ValueError unless the option ``model.NAME`` is a share below 1."""
    if not 0 <= value < 1:
        raise ValueError(f"model.{name} is {value}, must be at least 0 and less than 1")


def share_or_all(name: str, value: float) -> None:
    """ValueError unless the option ``model.NAME`` is a share, 0 and 1 included."""
    if not 0 <= value <= 1:
        raise ValueError(f"model.{name} is {value}, must be at least 0 and at most 1")


def positive_share(name: str, value: float) -> None:
    """ValueError unless the option ``model.NAME`` is a share above 0."""
    if not 0 < value <= 1:
        raise ValueError(f"model.{name} is {value}, must be in (0, 1]")


def between_0_and_1(name: str, value: float) -> None:
    """ValueError unless the option ``model.NAME`` is above 0 and below 1."""
    if not 0 < value < 1:
        raise ValueError(f"model.{name} is {value}, must be between 0 and 1")

"""How many processes torchrun has started. Needs no torch."""

from __future__ import annotations

import os

VARIABLE = "WORLD_SIZE"


def number_of_processes() -> int:
    """Processes of the group that this one belongs to: 1 without torchrun.

    Raises:
        ValueError: the variable that torchrun tells it by holds something else.
    """
    value = os.environ.get(VARIABLE, "1")
    if not (value.isdecimal() and int(value) > 0):
        raise ValueError(
            f"the environment variable {VARIABLE} is {value!r}, must be a positive integer: "
            "torchrun sets it, without torchrun unset it"
        )
    return int(value)

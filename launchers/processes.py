"""This process and torchrun, which has started it. Needs no torch."""

from __future__ import annotations

import ctypes
import os
import signal
import sys

VARIABLE = "WORLD_SIZE"
_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG in linux/prctl.h


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


def end_with(parent: int, number: signal.Signals = signal.SIGKILL) -> None:
    """Have the system end this process as soon as its parent has ended, where it can.

    A training whose torchrun is gone would go on, and write into the folder of the job that the
    scheduler has started in its place.

    Args:
        parent: process that has started this one.
        number: the signal that ends it.
    """
    if sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(_DEATH_SIGNAL, number)
    if os.getppid() != parent:  # it has ended in the meantime
        os.kill(os.getpid(), number)

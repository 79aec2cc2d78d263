"""Ranks that end as they are told, in the place of ``dropdrift train``.

``RANK=HOW ...``, where HOW is one of the functions below; a rank that is not named ends well.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from types import ModuleType

from dropdrift.launchers.main import main
from dropdrift.training.signals import EndedBySignal


class LostRankError(ValueError):
    """As training's, which needs torch."""


def lost() -> None:
    """Once rank 1 is there."""
    while not Path("late").exists():
        time.sleep(0.02)
    raise LostRankError("another rank has ended")


def late_mistake() -> None:
    """After the others have lost this rank, and have said so."""
    Path("late").touch()
    time.sleep(0.5)
    raise ValueError("part-00000.parquet: field item_id: id 1000000")


def bug() -> None:
    raise KeyError("a bug")


def killed() -> None:
    Path("late").touch()
    time.sleep(0.5)
    os.kill(os.getpid(), signal.SIGKILL)


def waits() -> None:
    time.sleep(60)


def saves() -> None:
    """On SIGTERM; the file says that it would be heard."""
    asked: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, _: asked.append(number))
    Path(f"ready-{os.environ['RANK']}").touch()
    while not asked:
        time.sleep(0.05)
    time.sleep(1.0)
    raise EndedBySignal(7, Path("runs/x"))


def stopped() -> None:
    Path(f"ready-{os.environ['RANK']}").touch()
    os.kill(os.getpid(), signal.SIGSTOP)


def run(arguments: list[str]) -> int:
    how = dict(argument.split("=") for argument in arguments)
    if name := how.get(os.environ["RANK"]):
        globals()[name]()
    return 0


module = ModuleType("dropdrift.launchers.train")
vars(module)["run"] = run
sys.modules[module.__name__] = module
main(["train", *sys.argv[1:]])

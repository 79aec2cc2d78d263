"""Where the threads of this process are, in words."""

from __future__ import annotations

import sys
import sysconfig
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FrameType, TracebackType

# A stack is told from the inside out; what began it is the command line and the same everywhere.
FRAMES = 30

# Threads that only look after the others.
_OF_THE_WATCH = ("watch", "store")

# Modules in whose functions a thread waits for other ranks.
_COLLECTIVES = ("torch.distributed.", "torchrec.distributed.comm_ops")
_PATHS = sysconfig.get_paths()
_LIBRARIES = ("<", *{_PATHS[kind] for kind in ("stdlib", "platstdlib", "purelib", "platlib")})


def places() -> list[str]:
    """One for each thread that runs code of this package or of a program that uses it.

    The main thread first; of each the innermost such function, such as
    ``MainThread in _forward (training/pipeline.py:52)``.
    """
    found = []
    for name, frame in _threads():
        own = [each for each in _frames(frame) if _is_own(each)]
        if own:
            found.append(f"{name} in {_described(own[0], own[0].f_lineno)}")
    return found


def stacks() -> list[str]:
    """A line for each thread but the watch's: its functions, the innermost first."""
    return [
        f"{name}: {' < '.join(_described(each, each.f_lineno) for each in _frames(frame)[:FRAMES])}"
        for name, frame in _threads()
    ]


def waits_for_others() -> bool:
    """Whether the main thread is in a collective."""
    main = sys._current_frames().get(threading.main_thread().ident or 0)
    return main is not None and main.f_globals.get("__name__", "").startswith(_COLLECTIVES)


def raised_in(error: BaseException) -> str:
    """The innermost function of this package, or of a program that uses it, that ``error`` left."""
    place, step = "", error.__traceback__
    while isinstance(step, TracebackType):
        if _is_own(step.tb_frame):
            place = _described(step.tb_frame, step.tb_lineno)
        step = step.tb_next
    return place


def _threads() -> Iterator[tuple[str, FrameType]]:
    """All threads but the watch's, the main thread first."""
    frames = sys._current_frames()
    main = threading.main_thread()
    for thread in sorted(threading.enumerate(), key=lambda thread: thread is not main):
        if thread.name not in _OF_THE_WATCH and thread.ident in frames:
            yield thread.name, frames[thread.ident]


def _frames(innermost: FrameType) -> list[FrameType]:
    found, frame = [], innermost
    while frame is not None:
        found.append(frame)
        frame = frame.f_back  # type: ignore[assignment]  # None ends the loop
    return found


def _is_own(frame: FrameType) -> bool:
    if frame.f_globals.get("__name__", "").startswith("dropdrift."):
        return True
    return not frame.f_code.co_filename.startswith(_LIBRARIES)


def _described(frame: FrameType, line: int) -> str:
    path = Path(frame.f_code.co_filename)
    return f"{frame.f_code.co_name} ({path.parent.name}/{path.name}:{line})"

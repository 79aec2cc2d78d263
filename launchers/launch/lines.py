"""Logs of several nodes on one terminal, line by line as they come."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterable, Sequence


def print_lines(
    logs: Sequence[Iterable[str]], numbers: Sequence[int], silent: threading.Event | None = None
) -> None:
    """Print all logs to their ends, the lines of several with the number of their node.

    Nothing more is printed once ``silent`` is set.

    Raises:
        ValueError: one of them could not be read to its end; the others were.
    """
    problems: list[str] = []
    silent = silent or threading.Event()
    several = len(logs) > 1
    threads = [
        threading.Thread(
            target=_print,
            args=(log, f"[{number}] " if several else "", silent, problems),
            daemon=True,
        )
        for log, number in zip(logs, numbers, strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if problems:
        raise ValueError(problems[0])


def _print(log: Iterable[str], prefix: str, silent: threading.Event, problems: list[str]) -> None:
    try:
        for line in log:
            if silent.is_set():
                return
            # One write, so that the lines of several nodes do not run into each other.
            sys.stdout.write(f"{prefix}{line.rstrip()}\n")
            sys.stdout.flush()
    except (RuntimeError, OSError, ValueError) as error:
        problems.append(str(error))

"""Logs of several nodes on one terminal, line by line as they come."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterable, Sequence


class LinePrinter:
    """Prints logs to their ends, each in a thread of its own.

    Args:
        logs: their lines, which may come at any time.
        numbers: of their nodes; where there are several, each line begins with it.
    """

    def __init__(self, logs: Sequence[Iterable[str]], numbers: Sequence[int]) -> None:
        self._silent = threading.Event()
        self._problems: list[str] = []
        prefixes = [f"[{number}] " if len(logs) > 1 else "" for number in numbers]
        self._threads = [
            threading.Thread(target=self._print, args=pair, daemon=True)
            for pair in zip(logs, prefixes, strict=True)
        ]
        for thread in self._threads:
            thread.start()

    def wait(self, seconds: float = threading.TIMEOUT_MAX) -> None:
        """Wait for the ends of all logs, or for so long.

        Raises:
            ValueError: one of them could not be read to its end; the others were.
        """
        end = time.monotonic() + seconds
        for thread in self._threads:
            thread.join(max(0.0, min(end - time.monotonic(), threading.TIMEOUT_MAX)))
        if self._problems:
            raise ValueError(self._problems[0])

    def silence(self) -> None:
        """Print nothing more."""
        self._silent.set()

    def _print(self, log: Iterable[str], prefix: str) -> None:
        try:
            for line in log:
                if self._silent.is_set():
                    return
                # One write, so that the lines of several nodes do not run into each other.
                sys.stdout.write(f"{prefix}{line.rstrip()}\n")
                sys.stdout.flush()
        except (RuntimeError, OSError, ValueError) as error:
            self._problems.append(str(error))

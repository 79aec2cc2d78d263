"""The processes of a group, and what the operating system says of them."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from pathlib import Path

_PROC = Path("/proc")
_HELD = "its process lives, but its Python stands still: some function holds the interpreter"
_STATES = {
    "T": "it is stopped (SIGSTOP)",
    "t": "a debugger holds it",
    "D": "it is in uninterruptible sleep: a disk or a network file does not answer",
    "R": _HELD,
    "S": _HELD,
}


@dataclass(frozen=True)
class Member:
    """A process of the group.

    Attributes:
        rank: its number.
        host: name of its machine.
        process: its id there.
        space: the machine's boot and the space in which process ids count; empty: unknown.
    """

    rank: int
    host: str
    process: int
    space: str

    def __str__(self) -> str:
        return f"rank {self.rank} (host {self.host}, process {self.process})"

    def state(self, space: str) -> str:
        """The letter that ``ps`` shows, for a caller in ``space``.

        ``X`` where the process has ended, empty where it is out of sight.
        """
        if not space or space != self.space:
            return ""
        try:
            status = (_PROC / str(self.process) / "stat").read_text(encoding="utf-8")
        except OSError:
            return "X"
        # After the program's name, which stands in brackets and may hold anything.
        letter = status.rpartition(")")[2].split()[0]
        return "X" if letter == "Z" else letter


def this_process(rank: int) -> Member:
    """The process that calls, as the rank that it is."""
    return Member(rank, socket.gethostname(), os.getpid(), _space())


def why_silent(state: str) -> str:
    """What the letter of :meth:`Member.state` says of a process that does not answer."""
    unseen = "its process, its machine or the network to it stands still"
    return _STATES.get(state, unseen)


def _space() -> str:
    try:
        boot = (_PROC / "sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
        return f"{boot} {(_PROC / 'self/ns/pid').readlink()}"
    except OSError:  # not Linux
        return ""

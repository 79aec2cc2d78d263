"""Why a process has failed, left for the process that started it. Needs no torch.

torchrun names a file to each of its processes, and TorchX one to each torchrun. What is left there
is as torch's own handler of errors writes it, with more beside it. Who reads the files and says
the reason itself sets ``TELLER`` to its own number: its processes then say nothing, so that the
reason is shown once, and last.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import signal
import socket
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any

from dropdrift.launchers.one_line import one_line
from dropdrift.training.signals import SIGNALLED

FILE = "TORCHELASTIC_ERROR_FILE"
TELLER = "DROPDRIFT_TELLER"


class Kind(IntEnum):
    """What a failure is. Of several the least is the first one, whatever their times.

    Clocks and the order in which processes end cannot tell a cause from what it has caused.
    """

    MISTAKE = 0  # of the user, in one line
    KILLED = 1  # by a signal: it could leave nothing
    BUG = 2  # with its traceback
    SILENT = 3  # it left nothing
    HUNG = 4  # it waited in vain for a rank that is there
    ENDED = 5  # it was asked to
    LOST = 6  # it waited for one that has failed, or was ended because of it


@dataclass(frozen=True)
class Failure:
    """How a process has ended that did not succeed.

    Attributes:
        kind: what it is.
        message: one line.
        exit_code: as a shell reports it.
        traceback: of a bug.
        rank: of the process in its group.
        ranks: processes of the group.
        host: its machine.
        process: its number there; 0: unknown.
        time: when it was found, in seconds since the epoch.
    """

    kind: Kind
    message: str
    exit_code: int
    traceback: str = ""
    rank: int = 0
    ranks: int = 1
    host: str = dataclasses.field(default_factory=socket.gethostname)
    process: int = 0
    time: float = dataclasses.field(default_factory=time.time)

    @classmethod
    def of_this_process(
        cls, kind: Kind, message: str, exit_code: int, traceback: str = ""
    ) -> Failure:
        """One of this process, whose rank torchrun tells in the environment."""
        return cls(
            kind,
            message,
            exit_code,
            traceback,
            rank=_number("RANK", 0),
            ranks=_number("WORLD_SIZE", 1),
            process=os.getpid(),
        )

    @classmethod
    def from_mapping(cls, record: Mapping[str, Any]) -> Failure | None:
        """What :meth:`as_mapping` has made; None if it was made by another program."""
        try:
            fields = dict(record["dropdrift"])
            return cls(**{**fields, "kind": Kind(fields["kind"])})
        except (KeyError, TypeError, ValueError):
            return None

    def as_mapping(self) -> dict[str, Any]:
        """As torchrun and TorchX read it, who take the earliest second for the first failure."""
        rounded = math.ceil(self.time) if self.kind is Kind.LOST else math.floor(self.time)
        extra = {"py_callstack": self.traceback or self.message, "timestamp": str(rounded)}
        return {
            "message": {"message": self.message, "extraInfo": extra},
            "dropdrift": dataclasses.asdict(self),
        }

    @property
    def order(self) -> tuple[int, float, int]:
        """Its place among those of a job: the least is the first failure."""
        return self.kind, self.time, self.rank

    def line(self, how: str = "failed first") -> str:
        """What a user is told, in one line."""
        message = one_line(self.message)
        if self.kind in (Kind.ENDED, Kind.LOST) or (self.kind is Kind.MISTAKE and self.ranks == 1):
            return message
        who = f"rank {self.rank} on host {self.host} {how}"
        if self.ranks == 1:
            who = f"the process on host {self.host} failed"
        number = f"process {self.process}, " if self.process else ""
        return f"{who} ({number}{ending(self.exit_code)}): {message}"


def ending(exit_code: int) -> str:
    """An exit code in words: that of a signal by its name."""
    try:
        return signal.Signals(exit_code - SIGNALLED).name
    except ValueError:
        return f"exit code {exit_code}"


def tell(failure: Failure, then: str = "") -> None:
    """Say why on stderr: a traceback in full, the line after it, and ``then`` at its end."""
    say(f"{failure.line()}{then}", failure.traceback)


def say(line: str, above: str = "") -> None:
    """Say a line on stderr, below what ``above`` holds."""
    # One write, so that the lines of several processes do not run into each other.
    sys.stderr.write(f"{above}dropdrift: {line}\n")
    sys.stderr.flush()


def parent_tells() -> bool:
    """Whether the process that started this one says itself what is left for it."""
    return os.environ.get(TELLER) == str(os.getppid()) and FILE in os.environ


def leave(failure: Failure) -> bool:
    """Leave a failure for the process that started this one; False if that is not possible."""
    path = os.environ.get(FILE)
    if not path:
        return False
    partial = f"{path}.{os.getpid()}"
    try:
        # Whole at once: it may be read, or this process killed, at any time.
        Path(partial).write_text(json.dumps(failure.as_mapping()), encoding="utf-8")
        Path(partial).replace(path)
    except OSError:
        return False
    return True


def find(path: Path) -> Failure | None:
    """The failure that a process has left in ``path``, if it has."""
    try:
        return Failure.from_mapping(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return None


def _number(variable: str, default: int) -> int:
    value = os.environ.get(variable, "")
    return int(value) if value.isdecimal() else default

"""One line of the doctor's table, and how an import becomes one."""

from __future__ import annotations

import signal
import subprocess
import sys
from dataclasses import dataclass
from typing import Literal

Status = Literal["ok", "warning", "error"]

IMPORT_TIMEOUT = 180  # seconds; the first import from a network drive is slow


@dataclass(frozen=True)
class Check:
    """One line of the table.

    Attributes:
        name: what was looked at.
        status: error: training fails; warning: something that is asked for later may.
        detail: what was found.
        remedy: what to do; empty where all is well, and only there.
    """

    name: str
    status: Status
    detail: str
    remedy: str = ""

    def __post_init__(self) -> None:
        assert (self.status == "ok") == (not self.remedy), "what is not ok has a remedy"

    @property
    def line(self) -> str:
        """For the table."""
        remedy = f"; {self.remedy}" if self.remedy else ""
        return f"{self.status:<8} {self.name:<13} {self.detail}{remedy}"


def check_import(name: str, code: str, remedy: str, failing: Status = "error") -> Check:
    """Run ``code`` in a process of its own; what it prints last is the detail.

    Args:
        name: of the check.
        code: for Python.
        remedy: what to do where it fails.
        failing: how bad that is.
    """
    said = run_alone(code)
    if isinstance(said, Failed):
        return said.as_check(name, remedy, failing)
    return Check(name, "ok", said)


@dataclass(frozen=True)
class Failed:
    """Why :func:`run_alone` has nothing to show."""

    reason: str

    def as_check(self, name: str, remedy: str, failing: Status = "error") -> Check:
        """The line that says so."""
        return Check(name, failing, self.reason, remedy)


def run_alone(code: str) -> str | Failed:
    """What ``code`` prints last, in a process of its own."""
    command = [sys.executable, "-P", "-W", "ignore", "-c", code]  # -P: not from this folder
    try:
        probe = subprocess.run(command, capture_output=True, text=True, timeout=IMPORT_TIMEOUT)
    except subprocess.TimeoutExpired:
        return Failed(f"took longer than {IMPORT_TIMEOUT} seconds")
    if probe.returncode < 0:
        return Failed(f"crashed ({signal.Signals(-probe.returncode).name})")
    said = (probe.stderr if probe.returncode else probe.stdout).strip().splitlines()
    last = said[-1].strip() if said else f"exit code {probe.returncode}"
    return Failed(last) if probe.returncode else last

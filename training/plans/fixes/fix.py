"""A change of options that leads to a plan, and how it is told. Needs no torch."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from dropdrift.sharding.wording import GIB, digits, gib, listed

# Columns of a line; options, which are there to be copied, may be longer.
LINE = 118

Kind = Literal["placement", "training", "hardware", "host memory"]


@dataclass(frozen=True)
class Fix:
    """Options that lead to a plan.

    Attributes:
        about: what they do.
        options: to add to the command line.
        kind: placement: neither hardware nor what is trained changes. training: what is trained
            changes. hardware: more or larger GPUs. host memory: tables leave the device.
        step_ms: estimated time of the plan's slowest rank.
        ranks: GPUs, or processes on a CPU.
        hardware: its name.
        fullest_bytes: memory of its device that the fullest rank takes.
        spilled: tables in host memory, largest first, with their bytes there.
        problems: limits that the plan breaks, but that of host memory.
    """

    about: str
    options: str
    kind: Kind
    step_ms: float
    ranks: int
    hardware: str
    fullest_bytes: int
    spilled: tuple[tuple[str, int], ...]
    problems: tuple[str, ...]

    @property
    def changes_training(self) -> bool:
        """Whether training with it comes to another model."""
        return self.kind == "training"

    @property
    def spilled_bytes(self) -> int:
        """Host memory that tables take, all ranks together."""
        return sum(amount for _, amount in self.spilled)


def fix_lines(fixes: Sequence[Fix]) -> list[str]:
    """Fixes as bullets: what each does, the options, what else to know.

    Options are on a line of their own; other lines are wrapped.
    """
    fastest = min((fix.step_ms for fix in fixes if not fix.spilled), default=None)
    lines: list[str] = []
    for fix in fixes:
        lines += [*bullet(about_fix(fix)), f"    {fix.options}"]
        for note in _notes(fix, fastest):
            lines += wrapped(note, "    ")
    return lines


def about_fix(fix: Fix) -> str:
    """What a fix does and comes to, without its options."""
    about = f"{fix.about}: {digits(fix.step_ms)} ms on {fix.ranks} {fix.hardware}"
    return about + ", changes what is trained" if fix.changes_training else about


def bullet(text: str) -> list[str]:
    """Lines of an item of a list."""
    return textwrap.wrap(text, LINE, initial_indent="  - ", subsequent_indent="    ")


def wrapped(text: str, indent: str = "") -> list[str]:
    """Lines of a paragraph."""
    return textwrap.wrap(text, LINE, initial_indent=indent, subsequent_indent=indent)


def _notes(fix: Fix, fastest_ms: float | None) -> list[str]:
    # The table at fault and the limit are for the plan itself, should it be chosen.
    notes = [f"but {problem.partition(':')[0]}" for problem in fix.problems]
    if fix.spilled:
        named = listed([f"{table} {gib(amount)}" for table, amount in fix.spilled])
        slower = f"; {digits(fix.step_ms / fastest_ms)} times the fastest" if fastest_ms else ""
        notes.append(
            f"{gib(fix.spilled_bytes)} GiB in host memory ({named}), which "
            f"--limits.max-spill-gib {math.ceil(fix.spilled_bytes / GIB)} allows{slower}"
        )
    return notes

"""``dropdrift bench compare``: what became slower, against a revision or between two files."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

from dropdrift.launchers.options import parse_config
from dropdrift.sharding.wording import counted, listed

if TYPE_CHECKING:
    from dropdrift.benchmarks.kernels.comparison import Change, Comparison, Side
    from dropdrift.training.comparison import Grid

SLOWER = 1
# Cases named that only one side has.
NAMED = 4
DESCRIPTION = (
    "Compare measurements of 'dropdrift bench kernels': those of two files, or this checkout with "
    "a git revision, which is measured in turn with it. With a revision, the options of 'dropdrift "
    "bench kernels' follow. Exit code 1: something is slower beyond the noise, or cannot be timed "
    "any more."
)
NOTE = (
    "Times are geometric means of the runs' medians. Noise: how far new/old may be from 1 by "
    "chance (5%, all rows together), from the differences between runs and the spread of calls."
)


@dataclass(frozen=True)
class CompareOptions:
    """How two sets of measurements are compared.

    Attributes:
        rounds: With a revision: how often it and this checkout are measured, in turn.
        out: With a revision: folder for the measurements, old.jsonl and new.jsonl.
        any_hardware: With two files: compare them though they are of different machines.
    """

    rounds: int = 3
    out: Path = Path("runs/bench/compare")
    any_hardware: bool = False

    def __post_init__(self) -> None:
        if self.rounds < 1:
            raise ValueError(f"rounds is {self.rounds}, must be positive")


def run(arguments: list[str]) -> int:
    """Compare two files, or this checkout with a revision.

    Raises:
        ValueError: what is named is neither, the files cannot be compared, or the revision cannot
            be measured.
    """
    names = list(itertools.takewhile(lambda argument: not argument.startswith("-"), arguments))
    own, others = _split(arguments[len(names) :])
    options = parse_config(
        CompareOptions,
        own if len(names) == 1 else arguments[len(names) :],
        prog="dropdrift bench compare REVISION | OLD.jsonl NEW.jsonl",
        description=DESCRIPTION,
    )
    if len(names) == 2:
        old, new = _of_files(*map(Path, names))
    elif len(names) == 1 and not Path(names[0]).is_file():
        old, new = _of_revision(names[0], others, options)
    else:
        raise ValueError(
            f"bench compare takes two files of 'dropdrift bench kernels' or one git revision, "
            f"found {' '.join(names) or 'nothing'}"
        )
    from dropdrift.benchmarks.kernels.comparison import compare

    comparison = compare(old, new, any_hardware=options.any_hardware)
    print_comparison(old, new, comparison)
    return SLOWER if comparison.worse else 0


def _split(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """The options of the comparison, and those of the benchmark."""
    own = {field.name for field in fields(CompareOptions)} | {"help", "no_any_hardware"}
    parts: tuple[list[str], list[str]] = ([], [])
    chosen = parts[1]
    for argument in arguments:
        if argument.startswith("-"):
            name = argument.lstrip("-").partition("=")[0].replace("-", "_")
            chosen = parts[0 if name in own or argument == "-h" else 1]
        chosen.append(argument)
    return parts


def _of_files(old: Path, new: Path) -> tuple[Side, Side]:
    from dropdrift.benchmarks.kernels.comparison import Side
    from dropdrift.benchmarks.kernels.record import read_records

    before, after = (Side.of(str(path), read_records(path)) for path in (old, new))
    return before, after


def _of_revision(
    revision: str, arguments: Sequence[str], options: CompareOptions
) -> tuple[Side, Side]:
    from dropdrift.benchmarks.kernels.comparison import Side
    from dropdrift.benchmarks.kernels.config import KernelOptions
    from dropdrift.benchmarks.kernels.record import read_records
    from dropdrift.benchmarks.kernels.revisions import measure_in_turn, own_checkout
    from dropdrift.training.provenance import check_writable

    # A mistake in them is told now, not by the first measurement.
    parse_config(KernelOptions, arguments, prog="dropdrift bench kernels", description="")
    checkout = own_checkout()
    files = (options.out / "old.jsonl", options.out / "new.jsonl")
    for file in files:
        check_writable(file)
        file.unlink(missing_ok=True)
    measure_in_turn(
        revision,
        checkout,
        arguments,
        options.rounds,
        files,
        lambda line: print(line, file=sys.stderr, flush=True),
    )
    old, new = (
        Side.of(name, read_records(file))
        for name, file in zip((revision, "this checkout"), files, strict=True)
    )
    return old, new


def print_comparison(
    old: Side, new: Side, comparison: Comparison, console: Console | None = None
) -> None:
    """Print what is compared, a table for each operator, and what it comes to."""
    from dropdrift.training.plans.views.terminal import plan_console
    from dropdrift.training.terminal import print_grid

    console = console or plan_console()
    for line in _headlines(old, new):
        console.print(Text(line), soft_wrap=True)
    for grid in _grids(comparison.changes):
        print_grid(grid, console)
    console.print(Text(f"{NOTE}\n", style="dim"))
    for line in _conclusion(comparison):
        console.print(Text(line), soft_wrap=True)


def _headlines(old: Side, new: Side) -> Iterator[str]:
    for which, side in (("Old", old), ("New", new)):
        runs = counted(len(side.runs), "run")
        loads = [load for run in side.runs for load in run.clocks.load]
        yield (
            f"{which}: {side.name}, revision {side.origin.code}, {runs}, {side.origin.date}, load "
            f"average {min(loads):.1f} to {max(loads):.1f}"
        )
    machines = list(dict.fromkeys(side.origin.hardware for side in (old, new)))
    yield "On " + " and ".join(machines)
    before, after = old.origin.versions, new.origin.versions
    for name in sorted({*before, *after}):
        if before.get(name) != after.get(name):
            yield f"Also differs: {name} {before.get(name, 'none')}, then {after.get(name, 'none')}"
    yield ""


def _grids(changes: Sequence[Change]) -> Iterator[Grid]:
    """A table for each operator, direction, type, activation and device."""
    from dropdrift.training.comparison import Grid

    groups: dict[str, list[Change]] = {}
    for change in changes:
        case = change.case
        parts = (case.op, case.direction, case.dtype, case.activation, case.device)
        groups.setdefault(", ".join(filter(None, parts)), []).append(change)
    for title, group in groups.items():
        header = ("Provider", "Rows", "N", "Z", "H", "Old ms", "New ms", "New/old", "Noise", "")
        yield Grid(title, header, tuple(tuple(_cells(change)) for change in group))


def _cells(change: Change) -> Iterator[str]:
    from dropdrift.benchmarks.kernels.wording import significant

    case = change.case
    yield f"{case.provider}, CUDA graph" if case.graph else case.provider
    yield f"{case.rows:,}"
    yield from (str(size) if size else "-" for size in (case.fields, case.width, case.hidden))
    yield significant(change.old_ms, 4)
    yield significant(change.new_ms, 4)
    yield f"{change.ratio:.3f}"
    yield f"±{change.noise:.1%}"
    yield change.verdict


def _conclusion(comparison: Comparison) -> Iterator[str]:
    for change in comparison.with_verdict("slower"):
        yield f"Slower, {change.ratio:.2f} times: {change.case.text}"
    for untimed in comparison.lost:
        yield f"No time any more: {untimed.case.text}: {untimed.reason}"
    for untimed in comparison.gained:
        yield f"No old time: {untimed.case.text}: {untimed.reason}"
    for which, cases in (("old", comparison.only_old), ("new", comparison.only_new)):
        if cases:
            yield f"Only in the {which}: {listed([case.text for case in cases], NAMED)}"
    counts = {
        verdict: len(comparison.with_verdict(verdict))
        for verdict in ("slower", "faster", "within noise")
    }
    yield ", ".join(f"{count} {verdict}" for verdict, count in counts.items())
    if comparison.single:
        yield (
            "One run each: what differs from run to run is not seen, and may be more than the "
            "noise shown. Append further runs to both files, or compare with a revision."
        )

"""``dropdrift bench inspect``: what the kernels take, compiled for GPUs that need not be here."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dropdrift.launchers.bench import BENCHMARKS
from dropdrift.launchers.options import parse_config

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from dropdrift.kernels.ahead_of_time.budgets import Budget, Budgets
    from dropdrift.kernels.ahead_of_time.resources import Failure, Resources

OVER_BUDGET = 1
CAPABILITIES = (80, 90)

HEADER = (
    *("Kernel", "Tile", "Warps", "Registers", "Shared", "Occupancy", "Instructions"),
    *("Matrix", "Loads", "Stores", "Budget"),
)
NOTE = """\
Registers a thread; bytes of shared memory a program; occupancy is modelled. Matrix instructions are
wgmma or mma; loads and stores of global memory are counted by bits a thread, or tma. The budget is
that of registers; budgets.json holds the rest."""


@dataclass(frozen=True)
class InspectOptions:
    """Options of ``dropdrift bench inspect``.

    Attributes:
        kernel: Only kernels with this in their name, such as ``denoise`` or ``bf16 z128``.
        capability: Compute capabilities to compile for: 80 (A100), 90 (H100, H200).
        budgets: File of the budgets; without, the one that comes with Dropdrift.
        save: Write what the kernels take now as their budgets, after a deliberate change.
        json: Print all that is known, as JSON.
    """

    kernel: str = ""
    capability: tuple[int, ...] = CAPABILITIES
    budgets: Path | None = None
    save: bool = False
    json: bool = False

    def __post_init__(self) -> None:
        if not self.capability or not set(self.capability) <= set(CAPABILITIES):
            given = " ".join(map(str, self.capability)) or "empty"
            known = " and ".join(map(str, CAPABILITIES))
            raise ValueError(f"capability is {given}, kernels are compiled for {known}")

    @property
    def complete(self) -> bool:
        """Whether all kernels are compiled for all GPUs."""
        return not self.kernel and set(self.capability) == set(CAPABILITIES)


def run(arguments: list[str]) -> int:
    """Compile the kernels and hold them to their budgets.

    Returns:
        0, or 1 if a kernel does not compile, breaks a limit of the GPU or is over its budget.

    Raises:
        ValueError: wrong options, or kernels cannot be compiled here.
    """
    options = parse_config(
        InspectOptions,
        arguments,
        prog="dropdrift bench inspect",
        description=BENCHMARKS["inspect"],
    )
    from dropdrift.kernels.ahead_of_time.budgets import BUDGETS, read_budgets, without_specimen
    from dropdrift.kernels.ahead_of_time.compiling import toolchain_problem, triton_minor

    if problem := toolchain_problem():
        raise ValueError(problem)
    path = options.budgets or BUDGETS
    budgets = read_budgets(path)
    if options.save and not options.complete and budgets.triton not in ("", triton_minor()):
        raise ValueError(
            f"{path} is of triton {budgets.triton}, this is {triton_minor()}: save all kernels"
        )
    compiled = _compile(options)
    if options.save:
        budgets = _save(options, compiled, budgets, path)
    wrong = _problems(compiled, budgets)
    gone = without_specimen(wrong, budgets) if options.complete else []
    lines = [line for found in wrong.values() for line in found] + gone
    if options.json:
        _print_json(options, compiled, lines)
    else:
        _print_table(compiled, budgets, wrong, lines)
    return OVER_BUDGET if lines else 0


def _compile(options: InspectOptions) -> list[Resources | Failure]:
    from dropdrift.data.progress import progress_bar
    from dropdrift.kernels.ahead_of_time.pool import compile_all

    with progress_bar(sys.stderr.isatty(), "kernels") as bar:
        task = bar.add_task("compiling", total=None)
        compiled = compile_all(
            options.capability,
            options.kernel,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    if not compiled:
        raise ValueError(f"no kernel has {options.kernel!r} in its name")
    return compiled


def _problems(compiled: Sequence[Resources | Failure], budgets: Budgets) -> dict[str, list[str]]:
    from dropdrift.kernels.ahead_of_time.budgets import problems
    from dropdrift.kernels.ahead_of_time.compiling import triton_minor

    return {each.name: problems(each, budgets, triton_minor()) for each in compiled}


def _save(
    options: InspectOptions,
    compiled: Sequence[Resources | Failure],
    budgets: Budgets,
    path: Path,
) -> Budgets:
    """Write what was compiled and breaks no limit; what was not compiled keeps its budget."""
    from dropdrift.kernels.ahead_of_time.budgets import Budgets, budgets_text, measured_budgets
    from dropdrift.kernels.ahead_of_time.compiling import triton_minor
    from dropdrift.training.provenance import write_whole

    kept = {} if options.complete else budgets.kernels
    saved = Budgets(triton_minor(), {**kept, **measured_budgets(compiled)})
    write_whole(path, budgets_text(saved))
    return saved


def _print_json(
    options: InspectOptions, compiled: Sequence[Resources | Failure], lines: Sequence[str]
) -> None:
    from dropdrift.kernels.ahead_of_time.resources import Resources
    from dropdrift.training.provenance import plain, provenance

    kernels = [
        asdict(each) | ({"occupancy": each.occupancy} if isinstance(each, Resources) else {})
        for each in compiled
    ]
    document = {
        "kind": "kernel-resources",
        "kernels": kernels,
        "problems": lines,
        "provenance": provenance(options),
    }
    print(json.dumps(plain(document), indent=2, ensure_ascii=False))


def _print_table(
    compiled: Sequence[Resources | Failure],
    budgets: Budgets,
    wrong: dict[str, list[str]],
    lines: Sequence[str],
) -> None:
    from dropdrift.kernels.ahead_of_time.compiling import triton_minor
    from dropdrift.kernels.ahead_of_time.resources import Resources

    rows = [
        _row(each, budgets.kernels.get(each.name), bool(wrong[each.name]))
        for each in compiled
        if isinstance(each, Resources)
    ]
    print(f"{len(rows)} configurations of kernels, compiled by triton {triton_minor()}\n")
    print("\n".join(_in_columns([HEADER, *rows])))
    print(f"\n{NOTE}")
    if budgets.triton not in ("", triton_minor()):
        print(f"Budgets are of triton {budgets.triton}: registers are not held to them.")
    if lines:
        print("\n".join(["", *lines]))
    else:
        print("All keep to their budgets.")


def _row(resources: Resources, budget: Budget | None, over: bool) -> tuple[str, ...]:
    blocks = (value for name, value in resources.tile.items() if _sizes_the_tile(name))
    return (
        resources.name,
        " x ".join(map(str, blocks)),
        str(resources.warps),
        str(resources.registers),
        f"{resources.shared_bytes:,}",
        f"{resources.occupancy:.0%}",
        f"{resources.instructions:,}",
        _counts({"wgmma": resources.wgmma, "mma": resources.mma}, " "),
        _counts(resources.loads, "x"),
        _counts(resources.stores, "x"),
        f"{budget.registers if budget else 'none'}, {'over' if over else 'kept'}",
    )


def _in_columns(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Names, which the options and budgets know them by, are never shortened."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for name, *others in rows:
        cells = (cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True))
        yield "  ".join([name.ljust(widths[0]), *cells])


def _counts(counts: Mapping[str, int], between: str) -> str:
    return " ".join(f"{count}{between}{what}" for what, count in sorted(counts.items()) if count)


def _sizes_the_tile(constant: str) -> bool:
    return "block" in constant.lower() or "tile" in constant.lower()

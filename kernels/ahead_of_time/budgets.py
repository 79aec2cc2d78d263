"""What each kernel may take, in ``budgets.json``, and what none may take whatever the file says.

A budget is what the kernel took when it was written down. The same minor version of Triton comes
with the same code generator and the same assembler: there a kernel has to keep to it exactly. Under
another version its registers are not held to the budget, since they say more of the compiler than
of the kernel: triton 3.6 took between 6 fewer and 36 more than 3.7 for the same kernels. Shared
memory, the widths of loads and matrix instructions follow from the kernel, and were the same.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from dropdrift.kernels.ahead_of_time.resources import (
    GPUS,
    THREAD_REGISTERS,
    Failure,
    Resources,
    TensorCores,
)

BUDGETS = Path(__file__).with_name("budgets.json")


@dataclass(frozen=True)
class Budget:
    """The most that a specimen may take, and the matrix instructions it must have.

    The attributes are those of :class:`~dropdrift.kernels.ahead_of_time.resources.Resources`.
    """

    registers: int
    shared_bytes: int
    narrow_accesses: int
    tensor_cores: TensorCores


@dataclass(frozen=True)
class Budgets:
    """Budgets by specimen, and the minor version of Triton they were measured with."""

    triton: str
    kernels: Mapping[str, Budget]


def read_budgets(path: Path = BUDGETS) -> Budgets:
    """Read budgets; none at all where there is no file yet.

    Raises:
        ValueError: the file does not hold budgets.
    """
    if not path.exists():
        return Budgets("", {})
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        kernels = {name: Budget(**budget) for name, budget in document["kernels"].items()}
        return Budgets(document["triton"], kernels)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"{path} does not hold budgets of kernels: {error}") from error


def budgets_text(budgets: Budgets) -> str:
    """Budgets as ``budgets.json`` holds them: a line for each kernel, which ``git diff`` shows."""
    lines = (
        f"    {json.dumps(name)}: {json.dumps(asdict(budget))}"
        for name, budget in sorted(budgets.kernels.items())
    )
    kernels = ",\n".join(lines)
    return f'{{\n  "triton": {json.dumps(budgets.triton)},\n  "kernels": {{\n{kernels}\n  }}\n}}\n'


def problems(compiled: Resources | Failure, budgets: Budgets, triton: str) -> list[str]:
    """What is wrong with a specimen, a line each; none if it keeps to its budget.

    Args:
        compiled: the specimen, after compiling.
        budgets: of all specimens.
        triton: the minor version that compiled it, such as ``3.7``.
    """
    if isinstance(compiled, Failure):
        lines = [compiled.reason]
    else:
        budget = budgets.kernels.get(compiled.name)
        lines = [*_broken_limits(compiled)]
        if budget is None:
            lines.append("no budget yet, 'dropdrift bench inspect --save' writes one")
        else:
            lines += _over_budget(compiled, budget, same_version=triton == budgets.triton)
    return [f"{compiled.name}: {line}" for line in lines]


def measured_budgets(compiled: Iterable[Resources | Failure]) -> dict[str, Budget]:
    """What specimens take now, as their budgets; none for one that no budget could allow."""
    return {
        each.name: Budget(
            each.registers, each.shared_bytes, each.narrow_accesses, each.tensor_cores
        )
        for each in compiled
        if isinstance(each, Resources) and not any(_broken_limits(each))
    }


def without_specimen(names: Iterable[str], budgets: Budgets) -> list[str]:
    """A line for each budget whose specimen is gone."""
    gone = sorted(set(budgets.kernels).difference(names))
    return [f"{name}: a budget, but no specimen of this name" for name in gone]


def _broken_limits(resources: Resources) -> Iterator[str]:
    gpu = GPUS[resources.capability]
    if resources.registers > THREAD_REGISTERS:
        yield f"{resources.registers} registers, a thread can have {THREAD_REGISTERS}"
    if resources.stack_bytes or resources.spills:
        yield (
            f"registers are spilled: {resources.stack_bytes} bytes of stack, "
            f"{resources.spills} instructions use it"
        )
    if resources.shared_bytes > gpu.program_shared_bytes:
        yield (
            f"{resources.shared_bytes:,} bytes of shared memory, a program on "
            f"sm_{resources.capability} can have {gpu.program_shared_bytes:,}"
        )
    matrix = {"wgmma": resources.wgmma, "mma": resources.mma, "none": 1}
    if not matrix[resources.tensor_cores]:
        yield f"no {resources.tensor_cores} instruction"


def _over_budget(resources: Resources, budget: Budget, same_version: bool) -> Iterator[str]:
    if same_version and resources.registers > budget.registers:
        yield f"{resources.registers} registers, budget {budget.registers}"
    if resources.shared_bytes > budget.shared_bytes:
        yield f"{resources.shared_bytes:,} bytes of shared memory, budget {budget.shared_bytes:,}"
    if resources.narrow_accesses > budget.narrow_accesses:
        yield (
            f"{resources.narrow_accesses} loads and stores under 32 bits, "
            f"budget {budget.narrow_accesses}"
        )
    if resources.tensor_cores != budget.tensor_cores:
        yield f"tensor cores: {resources.tensor_cores}, budget {budget.tensor_cores}"

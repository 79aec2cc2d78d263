"""Every kernel, in every configuration of its shape table, compiled for both GPUs without one."""

from __future__ import annotations

import ast
import importlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from dropdrift.kernels.ahead_of_time.budgets import problems, read_budgets, without_specimen
from dropdrift.kernels.ahead_of_time.collecting import (
    CAPABILITIES,
    all_specimens,
    kernel_modules,
)
from dropdrift.kernels.ahead_of_time.compiling import toolchain_problem, triton_minor
from dropdrift.kernels.ahead_of_time.pool import compile_all
from dropdrift.kernels.ahead_of_time.resources import Failure, Resources

pytestmark = pytest.mark.skipif(
    toolchain_problem() is not None, reason=toolchain_problem() or "kernels can be compiled"
)

BUDGETS = read_budgets()


@pytest.fixture(scope="module")
def compiled() -> dict[str, Resources | Failure]:
    return {result.name: result for result in compile_all()}


@pytest.mark.timeout(600)  # the first test waits for all kernels on a machine of two cores
@pytest.mark.parametrize("name", sorted(BUDGETS.kernels))
def test_a_kernel_keeps_to_its_budget(compiled: dict[str, Resources | Failure], name: str) -> None:
    if name in compiled:  # else the next test says so
        assert not problems(compiled[name], BUDGETS, triton_minor())


def test_specimens_and_budgets_are_of_the_same_kernels(
    compiled: dict[str, Resources | Failure],
) -> None:
    new = [
        line
        for name, result in compiled.items()
        if name not in BUDGETS.kernels
        for line in problems(result, BUDGETS, triton_minor())
    ]
    wrong = new + without_specimen(compiled, BUDGETS)
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("capability", CAPABILITIES)
def test_every_kernel_that_is_launched_has_a_specimen(capability: int) -> None:
    described = {_full_name(specimen.kernel) for specimen in all_specimens((capability,))}
    missing = sorted(_launched_kernels() - described)
    assert not missing, f"no specimen for {capability}: {', '.join(missing)}"


def test_specimens_are_named_after_their_gpu() -> None:
    for specimen in all_specimens():
        assert specimen.name.endswith(f" sm_{specimen.capability}"), specimen.name


def _full_name(kernel: object) -> str:
    function = kernel.fn  # type: ignore[attr-defined]  # of JITFunction and its interpreted twin
    return f"{function.__module__}.{function.__name__}"


def _launched_kernels() -> set[str]:
    """Functions under ``triton.jit`` that no other one calls."""
    kernels, called = {}, set()
    for module in kernel_modules():
        path = importlib.import_module(module).__file__
        assert path is not None
        for function in _jit_functions(ast.parse(Path(path).read_text(encoding="utf-8"))):
            kernels[f"{module}.{function.name}"] = function.name
            called |= {
                ast.unparse(node.func).rpartition(".")[2]
                for node in ast.walk(function)
                if isinstance(node, ast.Call)
            }
    return {full_name for full_name, name in kernels.items() if name not in called}


def _jit_functions(module: ast.Module) -> Iterator[ast.FunctionDef]:
    for node in ast.walk(module):
        if isinstance(node, ast.FunctionDef):
            decorators = (ast.unparse(decorator) for decorator in node.decorator_list)
            if any(decorator.startswith("triton.jit") for decorator in decorators):
                yield node

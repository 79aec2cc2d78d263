"""What is over a budget, what no budget allows, and the file that holds them."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from dropdrift.kernels.ahead_of_time.budgets import (
    Budget,
    Budgets,
    budgets_text,
    measured_budgets,
    problems,
    read_budgets,
    without_specimen,
)
from dropdrift.kernels.ahead_of_time.resources import Failure, Resources

NAME = "denoise_forward bf16 z128 h256 sm_90"
BUDGET = Budget(registers=160, shared_bytes=100_000, narrow_accesses=2, tensor_cores="wgmma")
BUDGETS = Budgets("3.7", {NAME: BUDGET})
KEPT = Resources(
    name=NAME,
    capability=90,
    tile={"BLOCK_ROWS": 128},
    warps=8,
    registers=160,
    stack_bytes=0,
    spills=0,
    shared_bytes=100_000,
    wgmma=8,
    mma=0,
    instructions=900,
    loads={"128": 12, "16": 1},
    stores={"128": 4, "8": 1},
    tensor_cores="wgmma",
    seconds=1.5,
)


def test_what_takes_its_budget_keeps_it() -> None:
    assert problems(KEPT, BUDGETS, "3.7") == []


@pytest.mark.parametrize(
    ("changed", "line"),
    [
        ({"registers": 168}, "168 registers, budget 160"),
        ({"shared_bytes": 100_001}, "100,001 bytes of shared memory, budget 100,000"),
        ({"loads": {"16": 2}}, "3 loads and stores under 32 bits, budget 2"),
        ({"tensor_cores": "none"}, "tensor cores: none, budget wgmma"),
    ],
)
def test_what_takes_more_is_over_budget(changed: dict[str, object], line: str) -> None:
    assert problems(dataclasses.replace(KEPT, **changed), BUDGETS, "3.7") == [f"{NAME}: {line}"]


@pytest.mark.parametrize(
    ("changed", "line"),
    [
        ({"registers": 256}, "256 registers, a thread can have 255"),
        ({"stack_bytes": 8}, "registers are spilled: 8 bytes of stack, 0 instructions use it"),
        ({"spills": 3}, "registers are spilled: 0 bytes of stack, 3 instructions use it"),
        (
            {"shared_bytes": 232_449},
            "232,449 bytes of shared memory, a program on sm_90 can have 232,448",
        ),
        (
            {"capability": 80, "shared_bytes": 166_913},
            "166,913 bytes of shared memory, a program on sm_80 can have 166,912",
        ),
        ({"wgmma": 0, "mma": 64}, "no wgmma instruction"),
        ({"tensor_cores": "mma"}, "no mma instruction"),
    ],
)
def test_what_no_gpu_has_cannot_be_budgeted(changed: dict[str, object], line: str) -> None:
    greedy = dataclasses.replace(KEPT, **changed)
    generous = Budget(999, 999_999, 999, greedy.tensor_cores)
    assert problems(greedy, Budgets("3.7", {NAME: generous}), "3.7") == [f"{NAME}: {line}"]
    assert measured_budgets([greedy, Failure("other", "does not compile")]) == {}


def test_another_minor_version_of_triton_is_held_to_all_but_registers() -> None:
    def over(**changed: object) -> bool:
        return bool(problems(dataclasses.replace(KEPT, **changed), BUDGETS, "3.6"))

    assert not over(registers=168)
    assert over(shared_bytes=100_001)
    assert over(loads={"16": 3})
    assert over(registers=255, stack_bytes=8)
    assert over(wgmma=0)


def test_a_specimen_without_budget_and_one_that_does_not_compile_are_problems() -> None:
    other = dataclasses.replace(KEPT, name="new")
    (line,) = problems(other, BUDGETS, "3.7")
    assert line == "new: no budget yet, 'dropdrift bench inspect --save' writes one"
    assert problems(Failure(NAME, "at 3:1: why"), BUDGETS, "3.7") == [f"{NAME}: at 3:1: why"]


def test_a_budget_without_specimen_is_a_problem() -> None:
    assert without_specimen([NAME, "new"], BUDGETS) == []
    (line,) = without_specimen(["new"], BUDGETS)
    assert line == f"{NAME}: a budget, but no specimen of this name"


def test_budgets_are_read_as_they_were_written(tmp_path: Path) -> None:
    path = tmp_path / "budgets.json"
    assert read_budgets(path) == Budgets("", {})
    both = Budgets("3.7", {NAME: BUDGET, "a": dataclasses.replace(BUDGET, registers=1)})
    path.write_text(budgets_text(both))
    assert read_budgets(path) == both
    assert measured_budgets([KEPT]) == {NAME: BUDGET}


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"triton": "3.7", "kernels": {"a": {"registers": 1}}}']
)
def test_a_file_of_something_else_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "other.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"other\.json does not hold budgets of kernels"):
        read_budgets(path)

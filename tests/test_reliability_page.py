"""Every promise of docs/reliability.md names tests that exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "reliability.md"
FAULTS, TRAINING = ROOT / "tests" / "faults", ROOT / "tests" / "training"


def rows() -> list[list[str]]:
    """The cells of every table's rows, without headings."""
    lines = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line[:1] == "|"]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [row for row in cells if row[0] != "fault" and set(row[0]) != {"-"}]


def functions_of(path: Path) -> set[str]:
    """Functions of a test module, those of a class as ``Class::function``."""
    found = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        members = node.body if isinstance(node, ast.ClassDef) else [node]
        prefix = f"{node.name}::" if isinstance(node, ast.ClassDef) else ""
        found |= {prefix + m.name for m in members if isinstance(m, ast.FunctionDef)}
    return {name for name in found if name.rpartition("::")[2].startswith("test_")}


@pytest.mark.parametrize("row", rows(), ids=lambda row: row[0][:40])
def test_every_promise_has_tests_that_exist(row: list[str]) -> None:
    fault, promise, named = row
    assert fault
    assert promise
    references = re.findall(r"`([^`]+)`", named)
    assert references, "no test is named"
    assert " ".join(f"`{reference}`" for reference in references) == named
    for reference in references:
        file, _, test = reference.partition("::")
        assert (ROOT / file).is_file(), f"{file} is not there"
        assert test in functions_of(ROOT / file), f"{file} has no test {test}"


def test_every_fault_that_is_tested_is_on_the_page() -> None:
    named = {name for row in rows() for name in re.findall(r"`([^`]+)`", row[2])}
    of_checkpoints = [TRAINING / "test_damaged_checkpoints.py", TRAINING / "test_full_disk.py"]
    for path in (*of_checkpoints, *FAULTS.glob("test_*.py")):
        file = path.relative_to(ROOT).as_posix()
        assert {f"{file}::{test}" for test in functions_of(path)} <= named

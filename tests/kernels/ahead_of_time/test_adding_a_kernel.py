"""docs/adding_a_kernel.md: its code runs, its commands are ones that there are."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from dropdrift.benchmarks.kernels.config import KernelOptions
from dropdrift.launchers.bench.inspect import InspectOptions
from dropdrift.launchers.options import parse_config

ROOT = Path(__file__).resolve().parents[3]
TEXT = (ROOT / "docs/adding_a_kernel.md").read_text(encoding="utf-8")
FOLDERS = ("", "kernels/feature_dropout", "tests/kernels/feature_dropout")
OPTIONS: dict[str, Any] = {"inspect": InspectOptions, "kernels": KernelOptions}


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE)


def commands() -> list[list[str]]:
    return [shlex.split(line) for block in blocks("sh") for line in block.splitlines()]


def test_the_code_runs() -> None:
    names: dict[str, Any] = {}
    for block in blocks("python"):
        exec(block, names)
    assert "operator" in names


def test_the_files_are_there() -> None:
    paths = set(re.findall(r"`([\w./]+(?:\.(?:py|json)|/))`", TEXT))
    assert "masking.py" in paths
    missing = [p for p in paths if not any((ROOT / folder / p).exists() for folder in FOLDERS)]
    assert not missing


@pytest.mark.parametrize("command", commands(), ids=" ".join)
def test_the_commands_are_understood(command: list[str]) -> None:
    program, *arguments = command
    if program == "make":
        makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
        assert all(f"\n{target}:" in makefile for target in arguments)
    elif arguments[:2] == ["-m", "pytest"]:
        assert arguments[2:]
        assert all((ROOT / path).exists() for path in arguments[2:])
    else:
        assert (program, arguments[0]) == (".venv/bin/dropdrift", "bench")
        parse_config(OPTIONS[arguments[1]], arguments[2:], prog="", description="")

"""``dropdrift bench inspect``: what it shows, saves and refuses, and that kernels can fail it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from dropdrift.kernels.ahead_of_time import compiling
from dropdrift.kernels.ahead_of_time.budgets import Budget, Budgets, budgets_text, read_budgets
from dropdrift.kernels.ahead_of_time.compiling import toolchain_problem, triton_minor

needs_toolchain = pytest.mark.skipif(
    toolchain_problem() is not None, reason=toolchain_problem() or "kernels can be compiled"
)

# Two small kernels, which take a second to compile.
SOME = ("--kernel", "drop_words", "--capability", "90")
RANDOM, FIXED = "drop_words random rate sm_90", "drop_words fixed rate sm_90"
GONE = Budget(registers=1, shared_bytes=0, narrow_accesses=0, tensor_cores="none")


@needs_toolchain
def test_budgets_are_saved_and_what_exceeds_one_later_is_named(tmp_path: Path, command) -> None:
    path = tmp_path / "budgets.json"
    path.write_text(budgets_text(Budgets(triton_minor(), {"another": GONE})))
    first = command("bench", "inspect", *SOME, "--budgets", path, "--save")
    assert first.code == 0, first.messages
    assert "All keep to their budgets." in first.output
    saved = read_budgets(path)
    # Kernels that were not asked for keep their budgets.
    assert set(saved.kernels) == {RANDOM, FIXED, "another"}
    assert saved.kernels["another"] == GONE
    measured = saved.kernels[RANDOM]
    assert measured.tensor_cores == "none"
    assert measured.shared_bytes == 0

    path.write_text(
        path.read_text().replace(f'"registers": {measured.registers}', '"registers": 8')
    )
    second = command("bench", "inspect", *SOME, "--budgets", path, "--json")
    assert second.code == 1, second.messages
    document = json.loads(second.output)
    assert f"{RANDOM}: {measured.registers} registers, budget 8" in document["problems"]
    assert document["provenance"]["versions"]["triton"].startswith(triton_minor())
    kernels = {kernel["name"]: kernel for kernel in document["kernels"]}
    assert set(kernels) == {RANDOM, FIXED}
    # Philox for a rate and twelve planes, or for the planes alone.
    assert kernels[RANDOM]["instructions"] > kernels[FIXED]["instructions"] > 200
    assert kernels[RANDOM]["registers"] == measured.registers
    assert 0 < kernels[RANDOM]["occupancy"] <= 1


@needs_toolchain
def test_a_name_that_no_kernel_has_is_refused(mistake: Callable[..., str]) -> None:
    line = mistake("bench", "inspect", "--kernel", "no such kernel", "--capability", "90")
    assert line == "no kernel has 'no such kernel' in its name"


@needs_toolchain
def test_budgets_of_two_versions_are_not_mixed(tmp_path: Path, mistake: Callable[..., str]) -> None:
    path = tmp_path / "budgets.json"
    path.write_text(budgets_text(Budgets("2.1", {})))
    line = mistake("bench", "inspect", *SOME, "--budgets", path, "--save")
    assert line == f"{path} is of triton 2.1, this is {triton_minor()}: save all kernels"


def test_another_gpu_is_refused(mistake: Callable[..., str]) -> None:
    line = mistake("bench", "inspect", "--capability", "90", "70")
    assert line == "capability is 90 70, kernels are compiled for 80 and 90"


def test_without_triton_it_says_so(
    mistake: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compiling, "find_spec", lambda _name: None)
    line = mistake("bench", "inspect")
    assert line == "triton is not installed, which compiles kernels (pip install triton)"


@needs_toolchain
def test_without_nvidias_tools_it_says_so(
    mistake: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on platforms whose wheel of triton has none."""
    from triton.knobs import NvidiaTool

    monkeypatch.setattr(NvidiaTool, "from_path", lambda _path: None)
    line = mistake("bench", "inspect")
    assert line.startswith("triton came without NVIDIA's tools here (Cannot find ptxas")


def test_the_help_needs_no_torch() -> None:
    code = (
        "import sys\n"
        "from dropdrift.launchers.bench import run\n"
        "try:\n"
        "    run(['inspect', '--help'])\n"
        "finally:\n"
        "    assert not {'torch', 'triton'} & set(sys.modules)\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    assert "--capability" in ended.stdout

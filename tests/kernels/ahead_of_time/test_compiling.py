"""Specimens of a package of their own, compiled: what is found, read, refused and kept."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from dropdrift.kernels.ahead_of_time.compiling import toolchain_problem
from dropdrift.kernels.ahead_of_time.pool import compile_all
from dropdrift.kernels.ahead_of_time.resources import Failure, Resources

pytestmark = pytest.mark.skipif(
    toolchain_problem() is not None, reason=toolchain_problem() or "kernels can be compiled"
)

PACKAGE = "package_of_specimens"
# y = z W^T; with pointers that need not be aligned its loads are of two bytes, and it spills.
KERNELS = """
import triton
import triton.language as tl

from dropdrift.kernels.specimen import Specimen


@triton.jit
def linear(z, weight, out, rows, WIDTH: tl.constexpr, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    column = tl.arange(0, WIDTH)
    place = row[:, None] * WIDTH + column[None, :]
    inside = (row < rows)[:, None]
    left = tl.load(z + place, mask=inside, other=0.0)
    right = tl.load(weight + column[None, :] * WIDTH + column[:, None])
    tl.store(out + place, tl.dot(left, right).to(left.dtype), mask=inside)


@triton.jit
def broken(out, BLOCK: tl.constexpr):
    column = tl.arange(0, BLOCK)
    tl.store(out + column, tl.dot(column, column))


def specimen(name, capability, dtype, divisible, kernel=linear):
    types = {"z": dtype, "weight": dtype, "out": dtype, "rows": "i32"}
    constants = {"WIDTH": 64, "BLOCK": 128}
    name = f"{name} sm_{capability}"
    return Specimen(name, kernel, types, constants, divisible, capability, 4, 2, True)


def specimens(capability):
    pointers = ("z", "weight", "out")
    found = [specimen("linear", capability, "*bf16", pointers)]
    if capability == 90:
        found.append(specimen("unaligned", capability, "*bf16", ()))
        found.append(specimen("other arguments", capability, "*bf16", pointers, broken))
        arguments = {"out": "*fp32"}
        found.append(Specimen("broken", broken, arguments, {"BLOCK": 32}, (), 90, 4, 2, False))
    return found
"""


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Found on the path that the compiling processes inherit; a folder deep, as the kernels are."""
    folder = tmp_path_factory.mktemp("specimens")
    inner = folder / PACKAGE / "family"
    inner.mkdir(parents=True)
    for path in (inner.parent / "__init__.py", inner / "__init__.py", inner / "plain.py"):
        path.write_text("")
    (inner / "triton_linear.py").write_text(KERNELS)
    (inner / "triton_shared.py").write_text("# only what other kernels call")
    return str(folder)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def compiled(package: str, cache: Path) -> dict[str, Resources | Failure]:
    """All specimens, by name; Triton was told to interpret, which no compiler must heed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(package)
        patch.setenv("TRITON_CACHE_DIR", str(cache))
        patch.setenv("TRITON_INTERPRET", "1")
        results = compile_all(package=PACKAGE)
    assert [result.name for result in results] == [
        *("linear sm_80", "linear sm_90", "unaligned sm_90"),
        *("other arguments sm_90", "broken"),
    ]
    return {result.name: result for result in results}


@pytest.mark.parametrize(("capability", "instruction"), [(80, "mma"), (90, "wgmma")])
def test_a_good_kernel_is_read(
    compiled: dict[str, Resources | Failure], capability: int, instruction: str
) -> None:
    linear = compiled[f"linear sm_{capability}"]
    assert isinstance(linear, Resources)
    assert (linear.stack_bytes, linear.spills, linear.warps) == (0, 0, 4)
    # A thread of 128 holds at least its 64 of the tile's 128 x 64 sums.
    assert 64 < linear.registers <= 255
    # z and the weight in bf16 lie in shared memory once each.
    assert linear.shared_bytes == (128 + 64) * 64 * 2
    # They are 24,576 bytes, of which 128 threads load 16 at a time.
    assert linear.loads == {"128": 12}
    # The sums are 16,384.
    assert linear.stores == {"128": 8}
    assert linear.tensor_cores == instruction
    assert (linear.mma > 0, linear.wgmma > 0) == (capability == 80, capability == 90)
    assert linear.instructions > 100
    assert linear.tile == {"WIDTH": 64, "BLOCK": 128}
    assert 0 < linear.occupancy <= 0.25


def test_spilled_registers_and_narrow_loads_are_seen(
    compiled: dict[str, Resources | Failure],
) -> None:
    unaligned = compiled["unaligned sm_90"]
    assert isinstance(unaligned, Resources)
    assert unaligned.stack_bytes > 0
    assert unaligned.spills > 0
    # The same bytes, two at a time.
    assert unaligned.loads == {"16": 96}
    assert unaligned.stores == {"16": 64}
    assert unaligned.narrow_accesses == 96 + 64


def test_what_does_not_compile_says_why(compiled: dict[str, Resources | Failure]) -> None:
    broken, other = compiled["broken"], compiled["other arguments sm_90"]
    assert isinstance(broken, Failure)
    assert "equal ranks" in broken.reason
    assert "\n" not in broken.reason
    assert isinstance(other, Failure)
    assert "broken takes out, BLOCK" in other.reason


def test_a_second_time_comes_from_the_cache(
    compiled: dict[str, Resources | Failure],
    package: str,
    cache: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.syspath_prepend(package)
    monkeypatch.setenv("TRITON_CACHE_DIR", str(cache))
    before = {path: path.stat().st_mtime_ns for path in cache.rglob("*")}
    told: list[tuple[int, int]] = []
    (again,) = compile_all((90,), "linear", PACKAGE, lambda done, total: told.append((done, total)))
    assert {path: path.stat().st_mtime_ns for path in cache.rglob("*")} == before
    first = compiled["linear sm_90"]
    assert isinstance(again, Resources)
    assert isinstance(first, Resources)
    assert dataclasses.replace(again, seconds=first.seconds) == first
    assert told == [(1, 1)]

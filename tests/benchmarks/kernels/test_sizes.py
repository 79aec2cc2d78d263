"""Sizes by name and as given, and which cases they make."""

from __future__ import annotations

import pytest
import torch

from dropdrift.benchmarks.kernels.config import KernelOptions
from dropdrift.benchmarks.kernels.plan import plan_cases
from dropdrift.benchmarks.kernels.sizes import NAMED, Size, parse_sizes

CPU = torch.device("cpu")
CUDA = torch.device("cuda")


def test_a_size_is_given_by_its_four_numbers() -> None:
    assert parse_sizes(["8x33x16x48"]) == (Size(rows=8, fields=33, width=16, hidden=48),)
    assert str(Size(8, 33, 16, 48)) == "8x33x16x48"


def test_a_size_that_is_named_twice_is_measured_once() -> None:
    (cpu,) = NAMED["cpu"]
    assert parse_sizes(["cpu", str(cpu), "8x1x1x1"]) == (cpu, Size(8, 1, 1, 1))


def test_the_report_has_the_sizes_that_were_asked_for() -> None:
    assert [str(size) for size in NAMED["report"]] == [
        f"{rows}x200x128x{hidden}"
        for hidden in (256, 512)
        for rows in (4_096, 16_384, 65_536, 262_144)
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("trainng", "sizes has 'trainng', must be one of cpu, .*; did you mean 'training'"),
        ("8x33x16", "sizes has '8x33x16', must be one of .* ROWSxFIELDSxWIDTHxHIDDEN, such as"),
        ("8x33x16x", "sizes has '8x33x16x'"),
        ("8x-3x16x48", "sizes has '8x-3x16x48'"),
        ("8x33x16x48x2", "sizes has '8x33x16x48x2'"),
        ("8x33x0x48", "sizes has '8x33x0x48', must be positive numbers"),
        ("8x33x16x٤", "sizes has"),
    ],
)
def test_what_is_no_size_is_refused(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_sizes([text])


def test_a_cpu_runs_no_triton() -> None:
    for case in plan_cases(KernelOptions(direction=("forward", "backward", "both")), CPU):
        for names in case.providers.values():
            assert not [name for name in names if "triton" in name]
            assert "dropdrift-torch" in names


def test_a_forward_keeps_nothing() -> None:
    options = KernelOptions(op=("drop-and-denoise",), sizes=("8x33x16x48",))
    (case,) = plan_cases(options, CUDA)
    assert set(case.providers["both"]) - set(case.providers["forward"]) == {
        "dropdrift-torch-save",
        "dropdrift-triton-save",
    }
    assert "eager-split" in case.providers["forward"]


def test_the_denoiser_brings_its_mask_along() -> None:
    options = KernelOptions(op=("denoiser",), sizes=("8x33x16x48", "8x33x32x48"))
    found = [(c.op, str(c.size), c.dtype, tuple(c.providers)) for c in plan_cases(options, CPU)]
    both = ("forward", "both")
    assert found == [
        # Of words neither type nor widths count: they are measured once.
        ("mask-words", "8x33x16x48", "float32", ("forward",)),
        ("denoiser", "8x33x16x48", "float32", both),
        ("denoiser", "8x33x32x48", "float32", both),
        ("denoiser", "8x33x16x48", "bfloat16", both),
        ("denoiser", "8x33x32x48", "bfloat16", both),
    ]


def test_embeddings_are_measured_once_a_type() -> None:
    options = KernelOptions(op=("mask-features",), sizes=("8x33x16x48", "8x33x32x48"))
    assert [case.dtype for case in plan_cases(options, CPU)] == ["float32", "bfloat16"]
    assert [case.dtype for case in plan_cases(options, CUDA)] == ["bfloat16"]


def test_providers_are_those_that_were_chosen() -> None:
    options = KernelOptions(op=("all",), providers=("eager-split", "dropdrift-torch"))
    found = {case.op: case.providers["forward"] for case in plan_cases(options, CPU)}
    assert found["mask-features"] == ("dropdrift-torch",)
    assert found["denoiser"] == ("eager-split", "dropdrift-torch")


@pytest.mark.parametrize(
    "options",
    [
        KernelOptions(op=("mask-words",), providers=("eager-split",)),
        KernelOptions(op=("mask-words",), direction=("backward",)),
        KernelOptions(op=("denoiser",), providers=("dropdrift-triton",)),
        KernelOptions(providers=("dropdrift-torch-save",), direction=("forward",)),
    ],
)
def test_nothing_to_measure_is_a_mistake(options: KernelOptions) -> None:
    with pytest.raises(ValueError, match=r"^providers .*: none computes .* on cpu$"):
        plan_cases(options, CPU)

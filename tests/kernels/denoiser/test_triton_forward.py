"""The Triton forward against float64, interpreted where there is no GPU."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from dropdrift.kernels.denoiser.tiles import Tile

triton = pytest.importorskip("triton")

from dropdrift.kernels.denoiser import triton_forward  # noqa: E402  # it needs triton
from dropdrift.kernels.denoiser.triton_forward import (  # noqa: E402
    constants,
    denoise_forward,
    denoise_kernel,
    specimens,
)

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
TOLERANCES = {torch.float32: 2e-5, torch.float16: 1e-2}
# Sizes that divide nothing, then as many fields as there can be.
SIZES = [
    (1, 1, 16, 32),
    (63, 31, 17, 100),
    (200, 33, 48, 33),
    (257, 200, 100, 64),
    (5, 512, 16, 32),
]


def arguments(problem: Any) -> tuple[Tensor, ...]:
    return tuple(tensor.to(DEVICE) for tensor in problem.tensors)


def expected(problem: Any) -> tuple[Tensor, Tensor]:
    """z_0' and the hidden layer before the activation: the concatenation in float64."""
    fields = problem.weight1.shape[1] - problem.noisy.shape[1]
    word, bit = torch.arange(fields) // 32, torch.arange(fields) % 32
    step = (problem.words[:, word] >> bit) & 1
    inputs = torch.cat([step.double(), problem.noisy.double()], dim=1)
    hidden = inputs @ problem.weight1.double().T + problem.bias1.double()
    if problem.activation == "relu":
        active = hidden.clamp(min=0)
    elif problem.activation == "silu":
        active = hidden / (1 + (-hidden).exp())
    else:
        active = hidden * torch.special.ndtr(hidden)
    return active @ problem.weight2.double().T + problem.bias2.double(), hidden


def assert_close(actual: Tensor, exact: Tensor, dtype: torch.dtype) -> None:
    assert actual.dtype == dtype
    tolerance = TOLERANCES[dtype]
    torch.testing.assert_close(actual.double().cpu(), exact, rtol=tolerance, atol=tolerance)


@pytest.mark.usefixtures("poisoned_memory")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("activation", ["relu", "silu", "gelu"])
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_output_and_hidden_layer_are_those_of_float64(make_problem, sizes, activation, dtype):
    problem = make_problem(*sizes, activation, dtype)
    out, none = denoise_forward(*arguments(problem), activation, False)
    again, hidden = denoise_forward(*arguments(problem), activation, True)
    exact, exact_hidden = expected(problem)
    assert_close(out, exact, dtype)
    assert_close(hidden, exact_hidden, dtype)
    assert none.shape == (0, sizes[3])
    assert torch.equal(out, again)


@pytest.mark.usefixtures("poisoned_memory")
@pytest.mark.parametrize("capability", [80, 86, 90])
@pytest.mark.parametrize("sizes", [(63, 200, 128, 100), (40, 33, 17, 33), (20, 300, 256, 32)])
def test_the_tiles_of_every_gpu_give_the_same(make_problem, monkeypatch, sizes, capability):
    monkeypatch.setattr(triton_forward, "capability_of", lambda _: capability)
    problem = make_problem(*sizes, "silu", torch.float16)
    out, hidden = denoise_forward(*arguments(problem), "silu", True)
    exact, exact_hidden = expected(problem)
    assert_close(out, exact, torch.float16)
    assert_close(hidden, exact_hidden, torch.float16)


def test_rows_beyond_the_batch_are_left_alone(make_problem) -> None:
    """The last program's tile has more rows than are left; H is no multiple of its columns."""
    problem = make_problem(40, 33, 20, 40)
    out, hidden = (torch.full((64, columns), 7.0, device=DEVICE) for columns in (20, 40))
    tile = Tile(rows=16, hidden=32, fields=32, warps=4, stages=2)
    constant = constants(33, 20, 40, "relu", True, "ieee", tile)
    denoise_kernel[(2,)](*arguments(problem), out, hidden, 29, **constant, num_warps=4)
    exact, exact_hidden = expected(problem)
    assert_close(out[:29], exact[:29], torch.float32)
    assert_close(hidden[:29], exact_hidden[:29], torch.float32)
    assert (out[29:] == 7).all()
    assert (hidden[29:] == 7).all()


def test_unused_bits_of_the_words_are_no_fields(make_problem) -> None:
    """Beyond the columns of s come those of z: a bit too many would add one of them."""
    problem = make_problem(9, 33, 64, 32)
    unused = torch.tensor([0, -2])  # all bits of the second word but field 32's
    spoilt = replace(problem, words=problem.words | unused.int())
    out, _ = denoise_forward(*arguments(problem), "relu", False)
    same, _ = denoise_forward(*arguments(spoilt), "relu", False)
    assert torch.equal(out, same)


@pytest.mark.parametrize("activation", ["relu", "silu", "gelu"])
def test_nan_stays_in_its_row_and_is_not_hidden(make_problem, activation) -> None:
    problem = make_problem(20, 5, 16, 32, activation)
    problem.noisy[7, 3] = torch.nan
    out, _ = denoise_forward(*arguments(problem), activation, False)
    assert out[7].isnan().all()
    assert not torch.cat([out[:7], out[8:]]).isnan().any()


@pytest.mark.parametrize("save_hidden", [False, True])
def test_no_rows(make_problem, save_hidden) -> None:
    problem = make_problem(0, 5, 16, 32)
    out, hidden = denoise_forward(*arguments(problem), "relu", save_hidden)
    assert (out.shape, hidden.shape) == ((0, 16), (0, 32))


@pytest.mark.parametrize("capability", [80, 90])
def test_specimens_describe_the_kernels_arguments(capability) -> None:
    for specimen in specimens(capability):
        names = set(specimen.arguments) | set(specimen.constants)
        assert names == set(specimen.kernel.arg_names)


@pytest.mark.gpu
@pytest.mark.skipif(DEVICE == "cpu", reason="needs a CUDA device")
@pytest.mark.parametrize("activation", ["relu", "silu", "gelu"])
@pytest.mark.parametrize(
    "sizes", [(70_001, 200, 128, 256), (4_095, 200, 128, 512), (999, 45, 64, 128)]
)
def test_bf16_on_a_gpu_is_that_of_float64(make_problem, sizes, activation):
    problem = make_problem(*sizes, activation, torch.bfloat16)
    out, hidden = denoise_forward(*arguments(problem), activation, True)
    for actual, exact in zip((out, hidden), expected(problem), strict=True):
        torch.testing.assert_close(actual.double().cpu(), exact, rtol=1e-2, atol=1e-2)

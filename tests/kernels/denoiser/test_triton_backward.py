"""The backward's Triton kernels, which the interpreter runs, against float64 autograd."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from dropdrift.kernels.denoiser.backward_tiles import (
    row_tile,
    rows_of_part,
    shared_bytes,
    weight_tile,
)
from dropdrift.kernels.denoiser.tiles import shared_limit
from dropdrift.kernels.feature_dropout import unpack_words

pytest.importorskip("triton")

pytestmark = pytest.mark.usefixtures("poisoned_memory")


def gradients(problem, *, saved: bool = False, grad: Tensor | None = None) -> tuple[Tensor, ...]:
    from dropdrift.kernels.denoiser.triton_backward import denoise_backward

    tensors = (problem.words, problem.noisy, problem.weight1, problem.bias1, problem.weight2)
    pre = pre_activations(problem) if saved else None
    grad = problem.grad if grad is None else grad
    return denoise_backward(grad, *tensors, pre, problem.activation)


def pre_activations(problem) -> Tensor:
    """As a forward would have saved them: exact, then rounded to the type of the inputs."""
    exact = problem.to(torch.float64)
    fields = exact.weight1.shape[1] - exact.noisy.shape[1]
    inputs = torch.cat([unpack_words(exact.words, fields, torch.float64), exact.noisy], dim=1)
    return (inputs @ exact.weight1.T + exact.bias1).to(problem.noisy.dtype)


def check(problem, actual: tuple[Tensor, ...]) -> None:
    """The gradients alone: there is no output to compare."""
    problem.check((problem.expected()[0].to(problem.noisy.dtype), *actual))


@pytest.mark.parametrize("saved", [False, True], ids=["recomputed", "saved"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=["fp32", "fp16"])
@pytest.mark.parametrize(
    ("rows", "fields", "width", "hidden", "activation"),
    [
        (1, 1, 16, 32, "silu"),
        (63, 31, 17, 33, "gelu"),
        (200, 32, 20, 45, "relu"),
        (257, 33, 16, 40, "silu"),
        (257, 200, 50, 100, "gelu"),
    ],
)
def test_every_gradient_is_that_of_float64(
    make_problem, rows, fields, width, hidden, activation, dtype, saved
):
    problem = make_problem(rows, fields, width, hidden, activation, dtype)
    check(problem, gradients(problem, saved=saved))


def test_widths_beyond_one_tile(make_problem):
    """Several tiles of fields, hidden units and columns, also of the sums that are db1 and db2."""
    problem = make_problem(30, 130, 140, 135, "silu", torch.float16)
    tile = weight_tile(130, 140, 135, itemsize=2, capability=90, precision="ieee")
    assert (tile.fields, tile.columns, tile.hidden) == (128, 128, 128)
    check(problem, gradients(problem))


def test_bits_beyond_the_last_field_do_not_count(make_problem):
    problem = make_problem(40, 33, 16, 32)
    expected = gradients(problem)
    problem.words[:, 1] |= -2
    for ours, theirs in zip(gradients(problem), expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0)


def test_the_gradient_of_a_sum_is_expanded_from_one_number(make_problem):
    problem = make_problem(70, 33, 16, 32, "silu")
    expanded = torch.ones(()).expand(problem.noisy.shape)
    assert expanded.stride() == (0, 0)
    expected = gradients(problem, grad=torch.ones_like(problem.noisy))
    for ours, theirs in zip(gradients(problem, grad=expanded), expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0)


def test_the_same_inputs_give_the_same_bits(make_problem):
    problem = make_problem(257, 40, 16, 32, "gelu")
    assert rows_of_part(257, 40, 16, 32) < 257
    for first, second in zip(gradients(problem), gradients(problem), strict=True):
        assert torch.equal(first, second)


@pytest.mark.parametrize("saved", [False, True])
def test_no_rows_give_no_gradient_to_the_weights(make_problem, saved):
    problem = make_problem(0, 33, 17, 32)
    d_noisy, *weights = gradients(problem, saved=saved)
    assert d_noisy.shape == (0, 17)
    for ours, weight in zip(weights, problem.floating[1:], strict=True):
        assert torch.equal(ours, torch.zeros_like(weight))


@pytest.mark.parametrize("rows", [1, 255, 256, 257, 4_096, 65_536, 1_000_003])
@pytest.mark.parametrize("sizes", [(1, 16, 32), (200, 128, 256), (512, 256, 1024)])
def test_parts_cover_all_rows_and_none_is_empty(rows, sizes):
    part = rows_of_part(rows, *sizes)
    parts = -(-rows // part)
    assert (parts - 1) * part < rows <= parts * part
    assert parts <= 64


def test_parts_and_tiles_fill_a_gpu_once():
    """65,536 rows: at two programs each, 108 multiprocessors have room for 216."""
    for fields, width, hidden in ((200, 128, 256), (45, 128, 512), (512, 256, 1024)):
        tile = weight_tile(fields, width, hidden, itemsize=2, capability=80, precision="ieee")
        parts = -(-65_536 // rows_of_part(65_536, fields, width, hidden))
        assert 108 < tile.programs(fields, width, hidden) * parts <= 2 * 132


@pytest.mark.parametrize("capability", [80, 86, 90])
@pytest.mark.parametrize("saved", [False, True])
def test_tiles_of_16_bits_fit_into_shared_memory(capability, saved):
    for fields in range(1, 513):
        for width in (16, 17, 64, 100, 128, 256):
            tile = row_tile(fields, width, 2, capability, "ieee", saved=saved)
            taken = shared_bytes(tile, fields, width, 2, capability, saved=saved)
            assert taken <= shared_limit(capability), (fields, width, tile)

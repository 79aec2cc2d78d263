from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dropdrift.kernels.denoiser import reference, row_blocks
from dropdrift.kernels.denoiser.row_blocks import ROWS_OF_THREAD, denoise_backward, denoise_forward

DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]


def run(problem, save_hidden):
    """Output and gradients."""
    out, hidden = denoise_forward(*problem.tensors, problem.activation, save_hidden)
    saved = hidden if save_hidden else None
    gradients = denoise_backward(problem.grad, *problem.tensors[:-1], saved, problem.activation)
    return out, *gradients


@pytest.mark.usefixtures("poisoned_memory")
@pytest.mark.parametrize("activation", reference.ACTIVATIONS)
@pytest.mark.parametrize("save_hidden", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
def test_output_and_gradients_are_float64s(make_problem, activation, save_hidden, dtype):
    for rows, fields, width, hidden in [(1, 1, 1, 1), (63, 31, 16, 20), (257, 200, 24, 33)]:
        problem = make_problem(rows, fields, width, hidden, activation, dtype)
        problem.check(run(problem, save_hidden))


@pytest.mark.usefixtures("poisoned_memory")
@pytest.mark.parametrize("save_hidden", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("blocks", "more"), [(1, 0), (1, 1), (2, 100)])
def test_several_blocks_of_rows(make_problem, save_hidden, dtype, blocks, more):
    rows = blocks * ROWS_OF_THREAD * torch.get_num_threads() + more
    problem = make_problem(rows, 33, 16, 24, "silu", dtype)
    problem.check(run(problem, save_hidden))


@settings(max_examples=60)
@given(
    rows=st.integers(0, 40),
    fields=st.integers(1, 70),
    width=st.integers(1, 20),
    hidden=st.integers(1, 20),
    block_rows=st.integers(1, 12),
    activation=st.sampled_from(sorted(reference.ACTIVATIONS)),
)
def test_any_shape_in_blocks_of_any_size(
    make_problem, rows, fields, width, hidden, block_rows, activation
):
    problem = make_problem(rows, fields, width, hidden, activation, torch.float64)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(row_blocks, "ROWS_OF_THREAD", block_rows)
        for save_hidden in (False, True):
            problem.check(run(problem, save_hidden))


@pytest.mark.parametrize("activation", reference.ACTIVATIONS)
def test_bfloat16_is_as_near_to_float64_as_the_reference(make_problem, activation):
    """Many pre-activations are near zero: relu's gradients are right only if none changes sign."""
    rows = ROWS_OF_THREAD * torch.get_num_threads() + 1000
    problem = make_problem(rows, 200, 64, 96, activation, torch.bfloat16)
    leaves = problem.leaves()
    out = reference.denoise(problem.words, *leaves, activation)
    theirs = (out, *torch.autograd.grad(out, leaves, problem.grad))
    for ours, plain, exact in zip(run(problem, False), theirs, problem.expected(), strict=True):
        errors = [torch.linalg.vector_norm(t.double() - exact) for t in (ours, plain)]
        assert errors[0] <= 2 * errors[1]  # sums over blocks are rounded twice


def test_the_hidden_layer_is_returned_before_the_activation(make_problem):
    problem = make_problem(40, 33, 5, 7, "gelu", torch.float64)
    _, hidden = denoise_forward(*problem.tensors, "gelu", True)
    x = torch.cat([reference.unpack_words(problem.words, 33, torch.float64), problem.noisy], dim=1)
    torch.testing.assert_close(hidden, x @ problem.weight1.T + problem.bias1)
    assert denoise_forward(*problem.tensors, "gelu", False)[1].shape == (0, 7)


def test_gradients_are_the_same_to_the_bit_when_repeated(make_problem):
    problem = make_problem(ROWS_OF_THREAD * torch.get_num_threads() + 500, 45, 16, 24)
    first, second = run(problem, False), run(problem, False)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))

from __future__ import annotations

import math

import pytest
import torch

from dropdrift.kernels.denoiser import reference

ACTS = {
    "relu": lambda x: max(x, 0.0),
    "silu": lambda x: x / (1 + math.exp(-x)),
    "gelu": lambda x: 0.5 * x * (1 + math.erf(x / math.sqrt(2))),
}


def test_there_are_three_activations():
    assert set(reference.ACTIVATIONS) == set(ACTS)


@pytest.mark.parametrize("activation", ACTS)
def test_each_output_is_the_papers_sum(make_problem, activation):
    """Number by number, without matrices."""
    problem = make_problem(3, 33, 2, 4, activation, torch.float64)
    words, noisy, weight1, bias1, weight2, bias2 = (t.tolist() for t in problem.tensors)
    actual = reference.denoise(*problem.tensors, activation)
    for row in range(3):
        s = [(words[row][n // 32] >> (n % 32)) & 1 for n in range(33)]
        x = [*s, *noisy[row]]
        hidden = [
            ACTS[activation](b + sum(w * v for w, v in zip(weights, x, strict=True)))
            for weights, b in zip(weight1, bias1, strict=True)
        ]
        for out in range(2):
            expected = bias2[out] + sum(w * h for w, h in zip(weight2[out], hidden, strict=True))
            assert actual[row, out].item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("activation", ACTS)
def test_gradients_are_those_of_finite_differences(make_problem, activation):
    problem = make_problem(4, 5, 3, 6, activation, torch.float64)
    assert torch.autograd.gradcheck(
        lambda *leaves: reference.denoise(problem.words, *leaves, activation), problem.leaves()
    )

"""Words and denoiser in one launch: what two launches give, bit for bit."""

from __future__ import annotations

import pytest
import torch

triton = pytest.importorskip("triton")

from dropdrift.kernels.denoiser.triton_drop_and_denoise import (  # noqa: E402  # it needs triton
    drop_and_denoise_forward,
    specimens,
)
from dropdrift.kernels.denoiser.triton_forward import denoise_forward  # noqa: E402
from dropdrift.kernels.feature_dropout import forward_process  # noqa: E402
from dropdrift.kernels.feature_dropout.triton_words import make_words  # noqa: E402

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
# seed, step, first_row, max_rate, rate
DRAWS = [
    (1, 3, 0, 1.0, None),
    (2**63 + 77, 2**32 - 1, 2**31 + 9, 0.3, None),
    (-5, 16, 2, 1.0, 0.7),
]


@pytest.mark.usefixtures("poisoned_memory")
@pytest.mark.parametrize("draw", DRAWS)
@pytest.mark.parametrize(
    ("rows", "fields", "width", "hidden", "activation", "dtype"),
    [
        (1, 1, 16, 32, "relu", torch.float32),
        (63, 31, 17, 100, "silu", torch.float16),
        (200, 33, 48, 33, "gelu", torch.float32),
        (257, 200, 128, 64, "relu", torch.float16),
        (6, 512, 16, 32, "relu", torch.float16),
    ],
)
def test_one_launch_is_the_two(make_problem, rows, fields, width, hidden, activation, dtype, draw):
    problem = make_problem(rows, fields, width, hidden, activation, dtype)
    missing, *floating = (tensor.to(DEVICE) for tensor in problem.tensors)
    out, saved, words = drop_and_denoise_forward(missing, *floating, activation, True, *draw)
    assert torch.equal(words.cpu(), forward_process.make_words(missing.cpu(), fields, *draw))
    assert torch.equal(words, make_words(missing, fields, *draw))
    expected, expected_saved = denoise_forward(words, *floating, activation, True)
    assert torch.equal(out, expected)
    assert torch.equal(saved, expected_saved)
    again, none, _ = drop_and_denoise_forward(missing, *floating, activation, False, *draw)
    assert torch.equal(again, out)
    assert none.shape == (0, hidden)


def test_no_rows(make_problem) -> None:
    missing, *floating = (tensor.to(DEVICE) for tensor in make_problem(0, 33, 16, 32).tensors)
    draw = DRAWS[0]
    out, hidden, words = drop_and_denoise_forward(missing, *floating, "relu", True, *draw)
    assert (out.shape, hidden.shape, words.shape) == ((0, 16), (0, 32), (0, 2))


@pytest.mark.parametrize("capability", [80, 90])
def test_specimens_describe_the_kernels_arguments(capability) -> None:
    for specimen in specimens(capability):
        names = set(specimen.arguments) | set(specimen.constants)
        assert names == set(specimen.kernel.arg_names)

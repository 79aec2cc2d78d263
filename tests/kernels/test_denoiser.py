import pytest
import torch

from dropdrift.kernels.denoiser import denoise
from dropdrift.kernels.feature_dropout import pack_words, unpack_words


@pytest.mark.parametrize("fields", [1, 45, 200])
def test_denoiser_is_the_two_layer_network_on_the_concatenation(fields):
    generator = torch.manual_seed(0)
    rows, width, hidden = 9, 16, 24
    words = pack_words(torch.rand(rows, fields, generator=generator) < 0.4)

    def parameter(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64, requires_grad=True)

    tensors = [
        parameter(rows, width),
        parameter(hidden, fields + width),
        parameter(hidden),
        parameter(width, hidden),
        parameter(width),
    ]
    noisy, weight1, bias1, weight2, bias2 = tensors
    concatenated = torch.cat([unpack_words(words, fields, torch.float64), noisy], dim=1)
    expected = torch.relu(concatenated @ weight1.T + bias1) @ weight2.T + bias2
    actual = denoise(words, *tensors)
    torch.testing.assert_close(actual, expected)
    upstream = torch.randn(rows, width, generator=generator, dtype=torch.float64)
    for ours, theirs in zip(
        torch.autograd.grad(actual, tensors, upstream),
        torch.autograd.grad(expected, tensors, upstream),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs)

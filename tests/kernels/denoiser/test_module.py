from __future__ import annotations

import pytest
import torch

from dropdrift.kernels.denoiser import Denoiser, denoise
from dropdrift.kernels.feature_dropout import pack_words


def words(rows: int, fields: int) -> torch.Tensor:
    return pack_words(torch.rand(rows, fields, generator=torch.manual_seed(0)) < 0.3)


def test_it_is_the_function_of_its_weights():
    denoiser = Denoiser(45, 6, 10, "gelu")
    noisy = torch.randn(7, 6, generator=torch.manual_seed(1))
    with torch.no_grad():
        denoiser.bias1.normal_()
        denoiser.bias2.normal_()
    weights = (denoiser.weight1, denoiser.bias1, denoiser.weight2, denoiser.bias2)
    expected = denoise(words(7, 45), noisy, *weights, activation="gelu", backend="reference")
    torch.testing.assert_close(denoiser(words(7, 45), noisy), expected)


def test_names_and_shapes_of_the_weights_are_those_of_checkpoints():
    shapes = {
        name: tuple(weight.shape) for name, weight in Denoiser(45, 6, 10).state_dict().items()
    }
    assert shapes == {"weight1": (10, 51), "bias1": (10,), "weight2": (6, 10), "bias2": (6,)}


def test_weights_begin_uniform_and_biases_at_zero():
    torch.manual_seed(0)
    denoiser = Denoiser(200, 56, 400)
    assert not denoiser.bias1.any()
    assert not denoiser.bias2.any()
    for weight in (denoiser.weight1, denoiser.weight2):
        bound = weight.shape[1] ** -0.5
        assert 0.99 * bound < weight.abs().max() <= bound
        assert weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.02)
        assert abs(weight.mean().item()) < 0.02 * bound


def test_options_reach_the_function():
    with pytest.raises(ValueError, match=r"float64|kernels run on CUDA"):
        Denoiser(45, 16, 32, backend="triton").double()(words(3, 45), torch.zeros(3, 16).double())
    denoiser = Denoiser(45, 16, 32, save_hidden=True)
    kept = []
    hooks = torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.shape), lambda t: t)
    with hooks:
        denoiser(words(3, 45), torch.zeros(3, 16))
    assert torch.Size([3, 32]) in kept


def test_it_says_what_it_is():
    text = repr(Denoiser(45, 16, 32, "silu", backend="torch"))
    assert "fields=45, width=16, hidden_width=32, activation='silu'" in text
    assert "save_hidden=False, backend='torch'" in text
    assert "backend='automatic'" in repr(Denoiser(45, 16, 32))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fields": 0}, "fields is 0"),
        ({"width": 0}, "width is 0"),
        ({"hidden_width": -1}, "hidden_width is -1"),
        ({"activation": "elu"}, "'elu'"),
        ({"backend": "jax"}, "'jax'"),
    ],
)
def test_mistakes_are_named_when_it_is_made(options, message):
    with pytest.raises(ValueError, match=message):
        Denoiser(**{"fields": 3, "width": 2, "hidden_width": 4, **options})

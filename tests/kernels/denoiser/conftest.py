"""Problems for any implementation of the denoiser, and what float64 makes of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor

from dropdrift.kernels.denoiser import reference
from dropdrift.kernels.feature_dropout import pack_words

# Relative errors that roundings of the type explain, of a whole tensor by its norm.
TOLERANCES = {
    torch.float64: 1e-12,
    torch.float32: 2e-6,
    torch.float16: 4e-3,
    torch.bfloat16: 3e-2,
}


@dataclass(frozen=True)
class Problem:
    """Arguments of the denoiser, and the gradient of what it returns."""

    words: Tensor
    noisy: Tensor
    weight1: Tensor
    bias1: Tensor
    weight2: Tensor
    bias2: Tensor
    grad: Tensor
    activation: str

    @property
    def floating(self) -> tuple[Tensor, ...]:
        return (self.noisy, self.weight1, self.bias1, self.weight2, self.bias2)

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        return (self.words, *self.floating)

    def to(self, dtype: torch.dtype) -> Problem:
        names = ("noisy", "weight1", "bias1", "weight2", "bias2", "grad")
        return replace(self, **{name: getattr(self, name).to(dtype) for name in names})

    def leaves(self) -> tuple[Tensor, ...]:
        return tuple(tensor.clone().requires_grad_() for tensor in self.floating)

    def expected(self) -> tuple[Tensor, ...]:
        """Output and gradients of the five floating-point arguments, in float64."""
        exact = self.to(torch.float64)
        leaves = exact.leaves()
        out = reference.denoise(exact.words, *leaves, self.activation)
        return (out.detach(), *torch.autograd.grad(out, leaves, exact.grad))

    def check(self, actual: tuple[Tensor, ...], factor: float = 1.0) -> None:
        """Output and gradients are the float64 reference's up to rounding."""
        names = ("out", "noisy", "weight1", "bias1", "weight2", "bias2")
        dtype = self.noisy.dtype
        for name, ours, exact in zip(names, actual, self.expected(), strict=True):
            assert ours.dtype == dtype, name
            assert ours.shape == exact.shape, name
            error = torch.linalg.vector_norm(ours.double() - exact)
            scale = torch.linalg.vector_norm(exact)
            assert error <= factor * TOLERANCES[dtype] * scale, (name, float(error / scale))


MakeProblem = Callable[..., Problem]


@pytest.fixture(scope="session")
def make_problem() -> MakeProblem:
    """``make_problem(rows, fields, width, hidden, activation, dtype, seed)``."""

    def make(
        rows: int,
        fields: int,
        width: int,
        hidden: int,
        activation: str = "relu",
        dtype: torch.dtype = torch.float32,
        seed: int = 0,
    ) -> Problem:
        generator = torch.Generator().manual_seed(seed)

        def normal(*shape: int, scale: float = 1.0) -> Tensor:
            # Rounded first, so that all types compute with the same numbers.
            values = torch.randn(*shape, generator=generator, dtype=torch.float64)
            return (scale * values).to(dtype)

        return Problem(
            words=pack_words(torch.rand(rows, fields, generator=generator) < 0.4),
            noisy=normal(rows, width),
            weight1=normal(hidden, fields + width, scale=(fields + width) ** -0.5),
            bias1=normal(hidden),
            weight2=normal(width, hidden, scale=hidden**-0.5),
            bias2=normal(width),
            grad=normal(rows, width),
            activation=activation,
        )

    return make


@pytest.fixture
def poisoned_memory() -> Iterator[None]:
    """Memory that nobody has written holds NaN."""
    torch.use_deterministic_algorithms(True)
    assert torch.utils.deterministic.fill_uninitialized_memory
    assert torch.empty(3).isnan().all()
    yield
    torch.use_deterministic_algorithms(False)

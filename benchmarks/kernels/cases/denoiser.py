"""The denoiser with its mask: what is dropped is drawn, and g([s, z_T]) is computed.

B rows, N fields, W mask words, Z width of z, H hidden units.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from dropdrift.benchmarks.kernels import baselines
from dropdrift.benchmarks.kernels.cases.case import (
    DTYPES,
    Case,
    Cost,
    Gradients,
    Provider,
    Result,
    Shape,
    Verdict,
    sets_needed,
)
from dropdrift.benchmarks.kernels.cases.masks import Masks
from dropdrift.benchmarks.kernels.config import Activation, ProviderName
from dropdrift.benchmarks.kernels.gate import compare, gradient_tolerance, output_tolerance
from dropdrift.benchmarks.kernels.providers import (
    backend_of,
    compiled,
    is_ours,
    saves_hidden,
)
from dropdrift.benchmarks.kernels.record import Dtype
from dropdrift.benchmarks.kernels.sizes import Size
from dropdrift.kernels.backend import Backend
from dropdrift.kernels.denoiser import denoise, drop_and_denoise
from dropdrift.kernels.feature_dropout import word_count

NAMES = ("z_0'", "dz_T", "dW1", "db1", "dW2", "db2")


class _Tensors:
    """Inputs in sets, and one set of weights: those stay where they are in training too."""

    def __init__(self, size: Size, kind: torch.dtype, seed: int, device: torch.device) -> None:
        activations = 2 * size.rows * size.width * kind.itemsize
        self.sets = sets_needed(device, activations + Masks.bytes_of(size.rows, size.fields))
        self.masks = Masks(size.rows, size.fields, self.sets, seed, device)
        generator = torch.Generator(device).manual_seed(seed)

        def random(*shape: int, scale: float = 1.0) -> Tensor:
            """A leaf, rounded to the type that is measured."""
            tensor = torch.randn(shape, generator=generator, device=device)
            return (scale * tensor).to(kind).requires_grad_()

        self.noisy = [random(size.rows, size.width) for _ in range(self.sets)]
        self.upstream = [
            random(size.rows, size.width).requires_grad_(False) for _ in range(self.sets)
        ]
        inputs = size.fields + size.width
        self.weights = (
            random(size.hidden, inputs, scale=inputs**-0.5),
            random(size.hidden, scale=inputs**-0.5),
            random(size.width, size.hidden, scale=size.hidden**-0.5),
            random(size.width, scale=size.hidden**-0.5),
        )

    def leaves(self, number: int) -> tuple[Tensor, ...]:
        """z_T and the weights."""
        return self.noisy[number], *self.weights

    def inputs(self, number: int) -> tuple[Tensor, ...]:
        """All that a forward may read."""
        masks = self.masks
        return masks.missing[number], masks.missing_words[number], *self.leaves(number)


def denoiser_case(
    op: Literal["denoiser", "drop-and-denoise"],
    size: Size,
    dtype: Dtype,
    activation: Activation,
    seed: int,
    device: torch.device,
) -> Case:
    """Missing fields, z_T and weights to what is dropped and z_0'.

    ``drop-and-denoise`` differs in dropdrift's providers: they make words and z_0' in one operator.
    """
    tensors = _Tensors(size, DTYPES[dtype], seed, device)
    masks = tensors.masks

    def provider(name: ProviderName) -> Provider:
        """How it computes the forward."""
        if not is_ours(name):
            split = name in ("eager-split", "compile-max")
            plain = baselines.denoise_split if split else baselines.denoise_concatenated
            function = compiled(name, plain)
            return lambda n: Result(*function(masks.missing[n], *tensors.leaves(n), activation))
        options = _Options(activation, saves_hidden(name), backend_of(name))
        one = _in_one_operator if op == "drop-and-denoise" else _in_two_operators
        return lambda n: one(tensors, n, options)

    def verdict(
        name: ProviderName, result: Result, gradients: tuple[Tensor, ...] | None
    ) -> Verdict:
        """Whether a result on set 0 is right."""
        mask = masks.verdict(name, result.mask)
        if mask.reason:
            return dataclasses.replace(mask, problem=f"mask: {mask.reason}")
        assert result.output is not None
        flags = masks.flags(result.mask)
        actual = dict(zip(NAMES, (result.output, *(gradients or ())), strict=False))
        expected = _in_float64(flags, tensors, activation, gradients is not None)
        tolerances = dict.fromkeys(NAMES, gradient_tolerance(dtype, activation))
        tolerances[NAMES[0]] = output_tolerance(dtype)
        return compare(actual, expected, tolerances)

    forward, backward = _costs(size, DTYPES[dtype].itemsize)
    return Case(
        shape=Shape(op, size.rows, size.fields, size.width, size.hidden, dtype, activation),
        sets=tensors.sets,
        provider=provider,
        inputs=tensors.inputs,
        gradients=Gradients(tensors.leaves, lambda n: tensors.upstream[n]),
        forward_cost=forward,
        backward_cost=backward,
        verdict=verdict,
    )


@dataclass(frozen=True)
class _Options:
    activation: Activation
    save_hidden: bool
    backend: Backend


def _in_two_operators(tensors: _Tensors, number: int, options: _Options) -> Result:
    words = tensors.masks.drop(number, options.backend)
    output = denoise(words, *tensors.leaves(number), **dataclasses.asdict(options))
    return Result(output, words)


def _in_one_operator(tensors: _Tensors, number: int, options: _Options) -> Result:
    masks = tensors.masks
    output, words = drop_and_denoise(
        masks.missing_words[number],
        *tensors.leaves(number),
        seed=masks.seed,
        step=number,
        first_row=0,
        **dataclasses.asdict(options),
    )
    return Result(output, words)


def _in_float64(
    flags: Tensor, tensors: _Tensors, activation: Activation, with_gradients: bool
) -> dict[str, Tensor]:
    """W2 act(W1 [s, z_T] + b1) + b2 for the inputs of set 0, and the gradients."""
    leaves = [leaf.detach().double().requires_grad_() for leaf in tensors.leaves(0)]
    noisy, weight1, bias1, weight2, bias2 = leaves
    with torch.set_grad_enabled(with_gradients):
        joined = torch.cat([flags.double(), noisy], dim=1)
        hidden = baselines.ACTIVATIONS[activation](F.linear(joined, weight1, bias1))
        output = F.linear(hidden, weight2, bias2)
    expected = [output.detach()]
    if with_gradients:
        expected += torch.autograd.grad(output, leaves, tensors.upstream[0].double())
    return dict(zip(NAMES, expected, strict=False))


def _costs(size: Size, item: int) -> tuple[Cost, Cost]:
    """Of a forward, and of a backward that needs no recomputation.

    Read are missing words, z_T and weights, and written words and z_0'; in the backward words, z_T,
    dz_0' and weights, and dz_T and the weights' gradients. [s, z_T] and the hidden layer need not
    leave the chip.
    """
    rows, fields, width, hidden = size.rows, size.fields, size.width, size.hidden
    words, z = 4 * rows * word_count(fields), item * rows * width
    weights = item * (hidden * (fields + width) + hidden + width * hidden + width)
    forward = Cost(2 * words + 2 * z + weights, 2 * rows * hidden * (fields + 2 * width))
    # dh and dW2 are as large as W2's product, dz_T as W1z's, dW1 as W1's.
    backward = Cost(words + 3 * z + 2 * weights, 2 * rows * hidden * (fields + 4 * width))
    return forward, backward

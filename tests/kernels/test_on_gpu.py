"""The operators on a GPU, against float64 and against the CPU; skipped where there is no GPU.

Needs torch, triton, pytest and pytest-timeout alone. On a machine without the rest of the stack,
the shared fixtures are left out:

    python -m pytest --noconftest tests/kernels/test_on_gpu.py

Legend: B rows, N fields, W mask words, Z width of z, H hidden units.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from dropdrift.kernels.denoiser import Denoiser, denoise, drop_and_denoise
from dropdrift.kernels.feature_dropout import (
    drop_words,
    mask_features,
    pack_words,
    unpack_words,
    word_count,
)

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]

DEVICE = "cuda"
# Of the greatest value that the reference has: rounding of the hidden units and of the result.
TOLERANCES = {torch.bfloat16: 1e-2, torch.float16: 1.5e-3, torch.float32: 5e-6}
DTYPES = tuple(TOLERANCES)
NAMES = ("noisy", "weight1", "bias1", "weight2", "bias2")
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": torch.relu,
    "silu": torch.nn.functional.silu,
    "gelu": torch.nn.functional.gelu,
}


@dataclass(frozen=True)
class Shape:
    """B, N, Z and H."""

    rows: int
    fields: int
    width: int
    hidden: int

    def __str__(self) -> str:
        return f"{self.rows}x{self.fields}x{self.width}x{self.hidden}"


SHAPES = (
    Shape(65_537, 200, 128, 256),
    Shape(4_096, 200, 128, 512),
    Shape(4_099, 512, 256, 1_024),
    Shape(257, 200, 128, 256),
    Shape(129, 33, 48, 72),
    Shape(63, 31, 17, 33),
    Shape(5, 1, 16, 32),
    Shape(1, 511, 255, 1_023),
)
USUAL = Shape(4_099, 200, 128, 256)


@pytest.fixture(autouse=True)
def _exact_products_and_dirty_memory() -> Iterator[None]:
    """No TF32, no sums in 16 bits; what an operator leaves unwritten of its outputs is NaN."""
    matmul, precision = torch.backends.cuda.matmul, torch.get_float32_matmul_precision()
    reduced = (
        matmul.allow_fp16_reduced_precision_reduction,
        matmul.allow_bf16_reduced_precision_reduction,
    )
    torch.set_float32_matmul_precision("highest")
    _set_reduced_reduction(False, False)
    # What is freed is handed out again: large tensors and small ones have pools of their own.
    for numbers, count in ((64 << 20, 4), (100_000, 64)):
        dirty = [torch.full((numbers,), math.nan, device=DEVICE) for _ in range(count)]
        del dirty
    yield
    torch.set_float32_matmul_precision(precision)
    _set_reduced_reduction(*reduced)


def _set_reduced_reduction(fp16: bool, bf16: bool) -> None:
    torch.backends.cuda.matmul.allow_fp16_reduced_precision_reduction = fp16
    torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = bf16


def uniform(*shape: int, seed: int, scale: float = 1.0) -> Tensor:
    """float64 on the CPU, in [-scale, scale]."""
    generator = torch.Generator().manual_seed(seed)
    return scale * (2 * torch.rand(*shape, generator=generator, dtype=torch.float64) - 1)


def random_words(rows: int, fields: int, share: float, seed: int) -> Tensor:
    """int32 [B, W] on the GPU: each field missing with probability ``share``."""
    generator = torch.Generator().manual_seed(seed)
    return pack_words(torch.rand(rows, fields, generator=generator) < share).to(DEVICE)


def arguments(shape: Shape, dtype: torch.dtype, seed: int = 0) -> list[Tensor]:
    """z_T, W1, b1, W2, b2 on the GPU, as leaves that need gradients.

    Every pre-activation is an odd multiple of 2^-10, computed without rounding in any type: where
    relu has its kink, no rounding decides a gradient.
    """
    steps = (8, 64, 512)  # z, W1 and b1 are multiples of 1/8, 1/64 and, but for 1/1024, of 1/512
    noisy = torch.round(steps[0] * uniform(shape.rows, shape.width, seed=seed)) / steps[0]
    weight1 = uniform(shape.hidden, shape.fields + shape.width, seed=seed + 1, scale=0.2)
    weight1 = torch.round(steps[1] * weight1) / steps[1]
    bias1 = torch.floor(steps[2] * uniform(shape.hidden, seed=seed + 2, scale=0.2)) / steps[2]
    values = [
        noisy,
        weight1,
        bias1 + 1 / 1024,
        uniform(shape.width, shape.hidden, seed=seed + 3, scale=shape.hidden**-0.5),
        uniform(shape.width, seed=seed + 4),
    ]
    return [value.to(DEVICE, dtype).requires_grad_() for value in values]


def reference(words: Tensor, leaves: list[Tensor], grad: Tensor, activation: str) -> list[Tensor]:
    """z_0' and the gradients of the five arguments in float64, on the real concatenation."""
    doubles = [leaf.detach().double().requires_grad_() for leaf in leaves]
    noisy, weight1, bias1, weight2, bias2 = doubles
    step_embedding = unpack_words(words, weight1.shape[1] - noisy.shape[1]).double()
    hidden = torch.cat([step_embedding, noisy], dim=1) @ weight1.T + bias1
    out = ACTIVATIONS[activation](hidden) @ weight2.T + bias2
    return [out, *torch.autograd.grad(out, doubles, grad.double())]


def error(actual: Tensor, expected: Tensor) -> float:
    """The greatest difference over the greatest expected value; NaN counts as infinite."""
    difference = (actual.double() - expected).abs().max() / expected.abs().max()
    return difference.nan_to_num(math.inf).item()


def assert_near(names: tuple[str, ...], actual: list[Tensor], expected: list[Tensor]) -> None:
    errors = {n: error(a, e) for n, a, e in zip(names, actual, expected, strict=True)}
    assert max(errors.values()) <= TOLERANCES[actual[0].dtype], errors


# Mask words


@pytest.mark.parametrize("fields", [1, 31, 32, 33, 200, 512])
@pytest.mark.parametrize("rows", [1, 63, 65_537])
def test_words_are_those_of_the_cpu_bit_by_bit(rows: int, fields: int) -> None:
    missing = random_words(rows, fields, 0.3, seed=rows)
    for options in (
        {"seed": 0, "step": 0, "first_row": 0},
        {"seed": 2**64 - 3, "step": 2**32 - 1, "first_row": 2**32 - rows},
        {"seed": 2**63 + 11, "step": 70_000, "first_row": 12_345, "max_rate": 0.37},
        {"seed": 17, "step": 3, "first_row": 1, "rate": 0.9},
    ):
        made = drop_words(missing, fields, **options, backend="triton")
        for backend in ("reference", "torch"):
            expected = drop_words(missing.cpu(), fields, **options, backend=backend)
            assert torch.equal(made.cpu(), expected), (backend, options)


def test_words_do_not_depend_on_how_the_batch_is_cut() -> None:
    missing = torch.zeros(1_000, word_count(200), dtype=torch.int32, device=DEVICE)
    make = partial(drop_words, fields=200, seed=5, step=9, backend="triton")
    whole = make(missing, first_row=40)
    parts = [make(missing[a:b], first_row=40 + a) for a, b in ((0, 1), (1, 258), (258, 1_000))]
    assert torch.equal(whole, torch.cat(parts))


# Masking of embeddings


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rows", [1, 63, 65_537])
@pytest.mark.parametrize(
    "widths", [(16,) * 200, (1,), (4, 64, 16, 1, 33) * 7, (128, 8) * 17], ids=len
)
def test_masking_and_its_gradient_are_exact(
    rows: int, widths: tuple[int, ...], dtype: torch.dtype
) -> None:
    total = sum(widths)
    words = random_words(rows, len(widths), 0.5, seed=total)
    embedded = torch.randn(rows, total, device=DEVICE).to(dtype).requires_grad_()
    grad = torch.randn(rows, total, device=DEVICE).to(dtype)
    repeats = torch.tensor(widths, device=DEVICE)
    dropped = unpack_words(words, len(widths)).repeat_interleave(repeats, dim=1)
    masked = mask_features(embedded, words, widths, backend="triton")
    assert torch.equal(masked, embedded.detach().masked_fill(dropped, 0))
    masked.backward(grad)
    assert embedded.grad is not None
    assert torch.equal(embedded.grad, grad.masked_fill(dropped, 0))


# The denoiser


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("save_hidden", [False, True], ids=["recompute", "save"])
@pytest.mark.parametrize("backend", ["triton", "torch"])
def test_denoiser_and_gradients_against_float64(
    shape: Shape, dtype: torch.dtype, save_hidden: bool, backend: str
) -> None:
    words = random_words(shape.rows, shape.fields, 0.5, seed=1)
    leaves = arguments(shape, dtype)
    grad = uniform(shape.rows, shape.width, seed=9).to(DEVICE, dtype)
    out = denoise(words, *leaves, save_hidden=save_hidden, backend=backend)
    got = [out, *torch.autograd.grad(out, leaves, grad)]
    assert_near(("out", *NAMES), got, reference(words, leaves, grad, "relu"))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("activation", ["silu", "gelu"])
@pytest.mark.parametrize("save_hidden", [False, True], ids=["recompute", "save"])
def test_smooth_activations_against_float64(
    dtype: torch.dtype, activation: str, save_hidden: bool
) -> None:
    words = random_words(USUAL.rows, USUAL.fields, 0.5, seed=2)
    leaves = arguments(USUAL, dtype, seed=20)
    grad = uniform(USUAL.rows, USUAL.width, seed=29).to(DEVICE, dtype)
    out = denoise(words, *leaves, activation=activation, save_hidden=save_hidden, backend="triton")
    got = [out, *torch.autograd.grad(out, leaves, grad)]
    assert_near(("out", *NAMES), got, reference(words, leaves, grad, activation))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES[:1] + SHAPES[4:], ids=str)
def test_words_made_in_the_denoisers_launch(shape: Shape, dtype: torch.dtype) -> None:
    missing = random_words(shape.rows, shape.fields, 0.2, seed=3)
    key = {"seed": 2**40 + 1, "step": 6, "first_row": 1_000, "max_rate": 0.8}
    leaves = arguments(shape, dtype, seed=30)
    grad = uniform(shape.rows, shape.width, seed=39).to(DEVICE, dtype)
    out, words = drop_and_denoise(missing, *leaves, **key, backend="triton")
    expected = drop_words(missing.cpu(), shape.fields, **key, backend="reference")
    assert torch.equal(words.cpu(), expected)
    got = [out, *torch.autograd.grad(out, leaves, grad)]
    assert_near(("out", *NAMES), got, reference(words, leaves, grad, "relu"))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("save_hidden", [False, True], ids=["recompute", "save"])
@pytest.mark.parametrize("shape", [SHAPES[0], SHAPES[4]], ids=str)
def test_results_and_gradients_repeat_bit_by_bit(
    shape: Shape, dtype: torch.dtype, save_hidden: bool
) -> None:
    words = random_words(shape.rows, shape.fields, 0.5, seed=4)
    leaves = arguments(shape, dtype, seed=40)
    grad = uniform(shape.rows, shape.width, seed=49).to(DEVICE, dtype)

    def run() -> list[Tensor]:
        out = denoise(words, *leaves, save_hidden=save_hidden, backend="triton")
        return [out, *torch.autograd.grad(out, leaves, grad)]

    first = run()
    for _ in range(5):
        for a, b in zip(first, run(), strict=True):
            assert torch.equal(a, b)


def test_tf32_is_taken_where_torch_is_told_to() -> None:
    words = random_words(USUAL.rows, USUAL.fields, 0.5, seed=5)
    leaves = [
        leaf.detach() + 1e-4 * torch.randn_like(leaf) for leaf in arguments(USUAL, torch.float32)
    ]
    grad = torch.ones(USUAL.rows, USUAL.width, device=DEVICE)
    expected = reference(words, leaves, grad, "relu")[0]
    exact = error(denoise(words, *leaves, backend="triton"), expected)
    torch.set_float32_matmul_precision("high")
    rounded = error(denoise(words, *leaves, backend="triton"), expected)
    assert exact < TOLERANCES[torch.float32] < rounded < 2e-3


@pytest.mark.parametrize("backend", ["triton", "torch"])
def test_no_rows(backend: str) -> None:
    shape = Shape(0, 33, 32, 64)
    leaves = arguments(shape, torch.float32)
    words = random_words(0, 33, 0.5, seed=0)
    out, made = drop_and_denoise(words, *leaves, seed=0, step=0, first_row=0, backend=backend)
    assert (out.shape, made.shape) == ((0, 32), (0, 2))
    gradients = torch.autograd.grad(out.sum(), leaves)
    assert all(not gradient.any() for gradient in gradients)
    masked = mask_features(torch.ones(0, 66, device=DEVICE), words, (2,) * 33, backend=backend)
    assert masked.shape == (0, 66)


# What torch does around operators


def operators(shape: Shape) -> dict[str, Callable[..., Any]]:
    """Each operator as a function of words and the denoiser's arguments."""
    widths = (8,) * (shape.width // 8)
    key = {"seed": 3, "step": 4, "first_row": 5, "backend": "triton"}
    return {
        "drop_words": lambda words, *_: drop_words(words, shape.fields, **key),
        "mask_features": lambda words, noisy, *_: mask_features(
            noisy, words[:, : word_count(len(widths))].contiguous(), widths, backend="triton"
        ),
        "denoise": partial(denoise, backend="triton"),
        "denoise_saved": partial(denoise, save_hidden=True, backend="triton"),
        "drop_and_denoise": lambda words, *leaves: drop_and_denoise(words, *leaves, **key)[0],
    }


OPERATORS = ("drop_words", "mask_features", "denoise", "denoise_saved", "drop_and_denoise")


def results(
    operator: Callable[..., Tensor], words: Tensor, leaves: list[Tensor], grad: Tensor
) -> list[Tensor]:
    """What the operator gives, and the gradients of what it depends on."""
    out = operator(words, *leaves)
    if not out.requires_grad:
        return [out]
    return [
        out,
        *(g for g in torch.autograd.grad(out, leaves, grad, allow_unused=True) if g is not None),
    ]


@pytest.mark.parametrize("name", OPERATORS)
def test_compiled_as_eager(name: str) -> None:
    words = random_words(USUAL.rows, USUAL.fields, 0.5, seed=6)
    leaves = arguments(USUAL, torch.bfloat16, seed=60)
    grad = uniform(USUAL.rows, USUAL.width, seed=69).to(DEVICE, torch.bfloat16)
    operator = operators(USUAL)[name]
    compiled = torch.compile(operator, fullgraph=True)
    for a, b in zip(
        results(compiled, words, leaves, grad), results(operator, words, leaves, grad), strict=True
    ):
        assert torch.equal(a, b)


@pytest.mark.parametrize("name", OPERATORS)
def test_captured_in_a_cuda_graph(name: str) -> None:
    """A replay reads what the inputs hold then, forward and backward."""
    operator = operators(USUAL)[name]
    words = random_words(USUAL.rows, USUAL.fields, 0.5, seed=7)
    leaves = arguments(USUAL, torch.bfloat16, seed=70)
    grad = uniform(USUAL.rows, USUAL.width, seed=79).to(DEVICE, torch.bfloat16)
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            results(operator, words, leaves, grad)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = results(operator, words, leaves, grad)
    words.copy_(random_words(USUAL.rows, USUAL.fields, 0.5, seed=8))
    with torch.no_grad():
        for leaf, other in zip(leaves, arguments(USUAL, torch.bfloat16, seed=80), strict=True):
            leaf.copy_(other)
    for tensor in captured:
        tensor.detach().fill_(77)
    graph.replay()
    torch.cuda.synchronize()
    for a, b in zip(captured, results(operator, words, leaves, grad), strict=True):
        assert torch.equal(a, b)


def test_autocast_computes_in_bf16_and_trains_fp32_weights() -> None:
    torch.manual_seed(0)
    words = random_words(USUAL.rows, USUAL.fields, 0.5, seed=9)
    leaves = arguments(USUAL, torch.float32, seed=90)
    grad = uniform(USUAL.rows, USUAL.width, seed=99).to(DEVICE, torch.float32)
    with torch.autocast(DEVICE, dtype=torch.bfloat16):
        out = denoise(words, *leaves, backend="triton")
    assert out.dtype is torch.bfloat16
    gradients = torch.autograd.grad(out, leaves, grad.bfloat16())
    assert {gradient.dtype for gradient in gradients} == {torch.float32}
    expected = reference(words, leaves, grad.bfloat16(), "relu")
    assert_near(("out", *NAMES), [out, *gradients], expected)


def test_a_module_learns() -> None:
    """The loss of a denoiser that is trained falls; nothing of it leaves the GPU."""
    torch.manual_seed(1)
    module = Denoiser(USUAL.fields, USUAL.width, USUAL.hidden).to(DEVICE)
    optimizer = torch.optim.AdamW(module.parameters(), lr=3e-3)
    noisy = torch.randn(USUAL.rows, USUAL.width, device=DEVICE)
    words = random_words(USUAL.rows, USUAL.fields, 0.5, seed=10)
    target = noisy.roll(1, dims=1) / 2
    losses = []
    for _ in range(60):
        loss = (module(words, noisy) - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.25 * losses[0]


# Sizes beyond 32-bit addresses, and other devices


def has_memory(gib: int) -> bool:
    return (
        torch.cuda.is_available() and torch.cuda.get_device_properties(0).total_memory > gib << 30
    )


@pytest.mark.skipif(not has_memory(32), reason="needs a GPU of 32 GiB")
def test_more_elements_than_32_bits_can_count() -> None:
    """Only the last rows are compared: theirs are the addresses beyond 2^31."""
    rows, tail = 17_000_001, 130
    shape = Shape(tail, 64, 128, 64)
    leaves = arguments(shape, torch.bfloat16)
    noisy = torch.zeros(rows, shape.width, device=DEVICE, dtype=torch.bfloat16)
    noisy[-tail:] = leaves[0].detach()
    missing = torch.zeros(rows, 2, dtype=torch.int32, device=DEVICE)
    key = {"seed": 1, "step": 2, "backend": "triton"}
    out, words = drop_and_denoise(missing, noisy, *leaves[1:], **key, first_row=0)
    few, few_words = drop_and_denoise(missing[-tail:], *leaves, **key, first_row=rows - tail)
    assert torch.equal(words[-tail:], few_words)
    assert torch.equal(out[-tail:], few)
    masked = mask_features(noisy, words, (2,) * 64, backend="triton")
    assert torch.equal(masked[-tail:], mask_features(noisy[-tail:], few_words, (2,) * 64))


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA devices")
def test_operators_run_where_their_tensors_are() -> None:
    words = random_words(USUAL.rows, USUAL.fields, 0.5, seed=11)
    leaves = arguments(USUAL, torch.bfloat16)
    here = denoise(words, *leaves, backend="triton")
    there = denoise(words.to("cuda:1"), *(leaf.to("cuda:1") for leaf in leaves), backend="triton")
    assert there.device.index == 1
    assert torch.equal(here.cpu(), there.cpu())

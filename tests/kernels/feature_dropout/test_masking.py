"""Masking of embeddings: every backend against the definition, gradients too."""

from __future__ import annotations

from importlib.util import find_spec

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dropdrift.kernels.backend import interpreting
from dropdrift.kernels.feature_dropout import mask_features, pack_words

CUDA = torch.cuda.is_available()
DEVICE = "cuda" if CUDA else "cpu"
BACKENDS = (
    "reference",
    "torch",
    *(("triton",) if find_spec("triton") and (CUDA or interpreting()) else ()),
)
DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
WIDTHS = {
    "equal": (16,) * 33,
    "of 8 and 24": (8, 24) * 10,
    "in fours": (4, 12, 20, 8),
    "in twos": (10, 6, 4) * 11,
    "odd": (3, 5, 1),
    "one field": (7,),
}


TRITON_DTYPES = (torch.float32, torch.float16, *(CUDA * [torch.bfloat16]))
COMBINATIONS = [
    pytest.param(backend, dtype, id=f"{backend}-{dtype}".replace("torch.", ""))
    for backend in BACKENDS
    for dtype in (TRITON_DTYPES if backend == "triton" else DTYPES)
]


def masked_by_hand(
    embedded: torch.Tensor, flags: torch.Tensor, widths: tuple[int, ...]
) -> torch.Tensor:
    result, start = embedded.clone(), 0
    for field, width in enumerate(widths):
        result[:, start : start + width][flags[:, field]] = 0
        start += width
    return result


def example(
    rows: int, widths: tuple[int, ...], dtype: torch.dtype
) -> tuple[torch.Tensor, torch.Tensor]:
    """Embeddings with NaN, infinities and negative zeros among them, and flags."""
    generator = torch.manual_seed(rows)
    embedded = torch.randn(rows, sum(widths), generator=generator).to(dtype)
    embedded[embedded > 1.5] = torch.nan
    embedded[embedded < -1.5] = -torch.inf
    embedded[embedded.abs() < 0.1] = -0.0
    return embedded.to(DEVICE), (torch.rand(rows, len(widths), generator=generator) < 0.5).to(
        DEVICE
    )


def same_bits(ours: torch.Tensor, theirs: torch.Tensor) -> bool:
    return ours.dtype == theirs.dtype and torch.equal(
        ours.view(torch.int8), theirs.view(torch.int8)
    )


@pytest.mark.usefixtures("poisoned")
@pytest.mark.parametrize(("backend", "dtype"), COMBINATIONS)
@pytest.mark.parametrize("widths", WIDTHS.values(), ids=WIDTHS)
@pytest.mark.parametrize("rows", [1, 63])
def test_whole_fields_are_zero_and_the_rest_keeps_its_bits(backend, dtype, widths, rows):
    embedded, flags = example(rows, widths, dtype)
    expected = masked_by_hand(embedded, flags, widths)
    masked = mask_features(embedded, pack_words(flags), widths, backend=backend)
    assert same_bits(masked, expected)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("widths", [(16,) * 33, (10, 6, 4)], ids=["equal", "different"])
def test_the_gradient_is_masked_in_the_same_way(backend, widths):
    embedded, flags = example(200, widths, torch.float32)
    embedded.requires_grad_()
    words = pack_words(flags)
    masked = mask_features(embedded, words, widths, backend=backend)
    upstream, _ = example(200, widths, torch.float32)
    (gradient,) = torch.autograd.grad(masked, embedded, upstream)
    assert same_bits(gradient, masked_by_hand(upstream, flags, widths))
    # A gradient that is one number seen everywhere is no contiguous tensor.
    (gradient,) = torch.autograd.grad(
        mask_features(embedded, words, widths, backend=backend).sum(), embedded
    )
    assert torch.equal(gradient, masked_by_hand(torch.ones_like(embedded), flags, widths))


@pytest.mark.parametrize("backend", ["reference", "torch"])
@pytest.mark.parametrize("widths", [(4, 4, 4), (1, 8, 3)])
def test_gradients_of_both_orders_in_float64(backend, widths):
    generator = torch.manual_seed(1)
    embedded = torch.randn(5, 12, generator=generator, dtype=torch.float64, requires_grad=True)
    words = pack_words(torch.rand(5, 3, generator=generator) < 0.5)

    def masked(x: torch.Tensor) -> torch.Tensor:
        return mask_features(x, words, widths, backend=backend)

    assert torch.autograd.gradcheck(masked, embedded)
    assert torch.autograd.gradgradcheck(lambda x: masked(x) ** 2, embedded)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("layout", ["columns of a wider tensor", "column by column"])
def test_tensors_that_are_not_contiguous_are_taken(backend, layout):
    wide, flags = example(20, (4,) * 9, torch.float32)
    embedded = wide[:, 3:23] if layout.startswith("columns") else wide[:, :20].T.contiguous().T
    words = pack_words(flags[:1, :5]).expand(20, 1)
    assert not embedded.is_contiguous()
    assert not words.is_contiguous()
    masked = mask_features(embedded, words, [4] * 5, backend=backend)
    same_flags = flags[:1, :5].expand(20, 5)
    assert masked.is_contiguous()
    assert same_bits(masked, masked_by_hand(embedded.contiguous(), same_flags, (4,) * 5))


@pytest.mark.parametrize("backend", BACKENDS)
def test_no_rows_give_no_rows(backend):
    embedded, flags = example(0, (3, 5), torch.float32)
    embedded.requires_grad_()
    masked = mask_features(embedded, pack_words(flags), (3, 5), backend=backend)
    masked.sum().backward()
    assert masked.shape == (0, 8)
    assert embedded.grad is not None


@pytest.mark.skipif("triton" not in BACKENDS, reason="Triton runs nowhere here")
@given(
    rows=st.integers(1, 40),
    widths=st.lists(st.integers(1, 20), min_size=1, max_size=40),
    dtype=st.sampled_from([torch.float32, torch.float16]),
)
@settings(max_examples=25)
def test_triton_masks_any_widths(rows, widths, dtype):
    embedded, flags = example(rows, tuple(widths), dtype)
    masked = mask_features(embedded, pack_words(flags), widths, backend="triton")
    assert same_bits(masked, masked_by_hand(embedded, flags, tuple(widths)))


@pytest.mark.parametrize("widths", [(4, 8, 4), (3, 8, 5)])
def test_one_byte_a_number(widths):
    embedded = torch.arange(1, 65, dtype=torch.uint8).view(4, 16).view(torch.float8_e4m3fn)
    words = pack_words(torch.eye(4, 3).bool())
    expected = mask_features(embedded, words, widths, backend="reference").view(torch.uint8)
    assert (expected == 0).sum() == sum(widths)
    assert torch.equal(mask_features(embedded, words, widths).view(torch.uint8), expected)

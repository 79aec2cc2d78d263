"""The Triton kernel against the reference, interpreted where there is no GPU."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dropdrift.kernels.feature_dropout import drop_words, pack_words, unpack_words

triton = pytest.importorskip("triton")
tl = pytest.importorskip("triton.language")

from dropdrift.kernels.feature_dropout import triton_words  # noqa: E402  # it needs triton

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
FAR = {"seed": 2**63 + 77, "step": 2**32 - 1, "first_row": 2**31 + 9}


def missing_words(rows: int, fields: int, seed: int = 0) -> torch.Tensor:
    flags = torch.rand(rows, fields, generator=torch.manual_seed(seed)) < 0.2
    return pack_words(flags).to(DEVICE)


@pytest.mark.usefixtures("poisoned")
@pytest.mark.parametrize(
    ("rows", "fields"), [(1, 512), (63, 1), (63, 32), (200, 31), (257, 33), (200, 200)]
)
@pytest.mark.parametrize(
    "draw",
    [
        {"seed": 1, "step": 3, "first_row": 0},
        {**FAR, "max_rate": 0.3},
        {**FAR, "rate": 0.7},
        {"seed": 1, "step": 16, "first_row": 2, "rate": 1.0},
    ],
)
def test_words_are_those_of_the_reference(rows, fields, draw):
    missing = missing_words(rows, fields)
    words = drop_words(missing, fields, backend="triton", **draw)
    assert words.dtype == torch.int32
    assert torch.equal(words, drop_words(missing, fields, backend="reference", **draw))
    assert torch.equal(words & missing, missing)
    assert not unpack_words(words, 32 * missing.shape[1])[:, fields:].any()


@given(
    rows=st.integers(1, 70),
    fields=st.integers(1, 70),
    seed=st.integers(-(2**63), 2**64 - 1),
    step=st.integers(0, 2**32 - 1),
    first_row=st.integers(0, 2**32 - 70),
    max_rate=st.floats(0, 1),
)
@settings(max_examples=25)
def test_any_draw_is_that_of_the_reference(rows, fields, seed, step, first_row, max_rate):
    missing = missing_words(rows, fields, seed=rows)
    draw = {"seed": seed, "step": step, "first_row": first_row, "max_rate": max_rate}
    words = drop_words(missing, fields, backend="triton", **draw)
    assert torch.equal(words, drop_words(missing, fields, backend="reference", **draw))


def test_slices_of_a_batch_agree_with_the_whole():
    missing = missing_words(130, 70)
    whole = drop_words(missing, 70, seed=9, step=4, first_row=0, backend="triton")
    parts = [
        drop_words(missing[a:b], 70, seed=9, step=4, first_row=a, backend="triton")
        for a, b in [(0, 1), (1, 66), (66, 130)]
    ]
    assert torch.equal(torch.cat(parts), whole)


def test_no_rows_make_no_words():
    assert drop_words(missing_words(0, 70), 70, **FAR, backend="triton").shape == (0, 3)


@triton.jit(do_not_specialize=["seed", "step"])
def padded_tile_kernel(
    missing: tl.tensor,
    words: tl.tensor,
    fields: tl.tensor,
    seed: tl.tensor,
    step: tl.tensor,
    levels: tl.tensor,
    count: tl.constexpr,
    rows_of_tile: tl.constexpr,
    words_of_tile: tl.constexpr,
):
    row, column = tl.arange(0, rows_of_tile), tl.arange(0, words_of_tile)
    there = (column < count)[None, :] & (row >= 0)[:, None]
    absent = tl.load(missing + row[:, None] * count + column[None, :], mask=there, other=0)
    global_row = row.to(tl.uint32)
    threshold = triton_words.drop_thresholds(global_row, seed, step, levels, False)
    tile = triton_words.drop_words_tile(
        absent, global_row[:, None], column[None, :], threshold[:, None], fields, seed, step
    )
    tl.store(words + row[:, None] * words_of_tile + column[None, :], tile)


@pytest.mark.parametrize("fields", [32, 70, 96])
def test_a_tile_with_more_columns_than_there_are_words_is_empty_there(fields):
    missing = missing_words(16, fields)
    words = missing.new_full((16, 4), -1)
    count = missing.shape[1]
    padded_tile_kernel[(1,)](missing, words, fields, -5, 7, 4096, count, 16, 4)
    expected = drop_words(missing, fields, seed=-5, step=7, first_row=0, backend="reference")
    assert torch.equal(words[:, :count], expected)
    assert not words[:, count:].any()

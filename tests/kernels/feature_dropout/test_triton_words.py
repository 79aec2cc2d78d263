"""The Triton kernel against the reference, interpreted where there is no GPU."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dropdrift.kernels.feature_dropout import drop_words, pack_words, unpack_words

pytest.importorskip("triton")

from dropdrift.kernels.feature_dropout import triton_words

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


@pytest.mark.parametrize("capability", [80, 90])
def test_each_specimen_names_all_arguments(capability):
    specimens = triton_words.specimens(capability)
    assert len({specimen.name for specimen in specimens}) == len(specimens)
    for specimen in specimens:
        assert {*specimen.arguments, *specimen.constants} == set(specimen.kernel.arg_names)

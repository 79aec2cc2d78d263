"""The C of a CPU against the reference, and with no compiler."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from dropdrift.kernels.feature_dropout import drop_words, pack_words, unpack_words, word_count
from dropdrift.kernels.feature_dropout.compiled_words import (
    WORDS_OF_THREAD,
    WORTH_COMPILING,
    compiled_library,
)

needs_compiler = pytest.mark.skipif(compiled_library() is None, reason="no C compiler works here")


def missing_words(rows: int, fields: int, seed: int = 0) -> torch.Tensor:
    return pack_words(torch.rand(rows, fields, generator=torch.manual_seed(seed)) < 0.2)


@pytest.fixture
def fresh_compiler() -> Iterator[None]:
    """What another test compiled is not taken, and what this one finds not kept."""
    compiled_library.cache_clear()
    yield
    compiled_library.cache_clear()


@needs_compiler
@pytest.mark.parametrize(("rows", "fields"), [(1025, 1), (1100, 31), (1300, 33), (257, 200)])
@pytest.mark.parametrize(
    "draw",
    [
        {"seed": 1, "step": 3, "first_row": 0},
        {"seed": 2**63 + 77, "step": 2**31 + 5, "first_row": 2**31 + 9, "max_rate": 0.3},
        {"seed": 2**64 - 1, "step": 2**32 - 1, "first_row": 2**32 - 1300, "rate": 0.7},
        {"seed": -1, "step": 0, "first_row": 1, "rate": 1.0},
        {"seed": 5, "step": 0, "first_row": 1, "rate": 0.0},
    ],
)
def test_words_are_those_of_the_reference(rows, fields, draw):
    missing = missing_words(rows, fields)
    assert missing.numel() >= WORTH_COMPILING
    expected = drop_words(missing, fields, backend="reference", **draw)
    assert torch.equal(drop_words(missing, fields, backend="torch", **draw), expected)


@needs_compiler
@pytest.mark.usefixtures("poisoned")
def test_threads_share_a_batch_without_a_seam():
    fields = 70
    missing = missing_words(2 * WORDS_OF_THREAD // word_count(fields) + 502, fields)
    assert missing.shape[0] % 2 == 1
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        shared = drop_words(missing, fields, seed=4, step=1, first_row=7)
    finally:
        torch.set_num_threads(threads)
    expected = drop_words(missing, fields, seed=4, step=1, first_row=7, backend="reference")
    assert torch.equal(shared, expected)


@needs_compiler
def test_slices_of_a_batch_and_two_ranks_agree_with_the_whole():
    fields, rows = 100, 1200
    missing = missing_words(2 * rows, fields)
    draw = {"seed": 8, "step": 2}
    whole = drop_words(missing, fields, first_row=0, **draw)
    ranks = [
        drop_words(missing[r * rows : (r + 1) * rows], fields, first_row=r * rows, **draw)
        for r in range(2)
    ]
    assert torch.equal(torch.cat(ranks), whole)
    # Every other word column, as a view: a tensor that is not contiguous.
    strided = torch.stack([missing, torch.full_like(missing, -1)], dim=2)[:, :, 0]
    assert not strided.is_contiguous()
    assert torch.equal(drop_words(strided, fields, first_row=0, **draw), whole)


@needs_compiler
@pytest.mark.parametrize("fields", [31, 200])
def test_number_dropped_is_uniform(fields):
    """Chi-square with N degrees of freedom: mean N, variance 2 N."""
    rows = 400 * (fields + 1)
    words = drop_words(missing_words(rows, fields) * 0, fields, seed=12, step=3, first_row=0)
    counts = np.bincount(unpack_words(words, fields).sum(1).numpy(), minlength=fields + 1)
    chi_square = ((counts - 400) ** 2 / 400).sum()
    assert abs(chi_square - fields) < 5 * np.sqrt(2 * fields)


@needs_compiler
def test_fields_correlate_through_the_rate_alone():
    """With p ~ U(0, 1) any two fields have correlation 1/3 (Beta-binomial: 1 / (a + b + 1))."""
    rows, fields = 40_000, 66
    flags = unpack_words(
        drop_words(missing_words(rows, fields) * 0, fields, seed=3, step=9, first_row=0), fields
    )
    pairs = torch.corrcoef(flags.double().T)[*torch.triu_indices(fields, fields, 1)]
    assert (pairs - 1 / 3).abs().max() < 6 / rows**0.5


@needs_compiler
@pytest.mark.parametrize("other", [{"step": 10}, {"seed": 4}, {"first_row": 1}])
def test_with_a_fixed_rate_nothing_correlates(other):
    rows, fields = 40_000, 66
    draw = {"seed": 3, "step": 9, "first_row": 0, "rate": 0.4}
    nothing = missing_words(rows, fields) * 0
    here = unpack_words(drop_words(nothing, fields, **draw), fields).double()
    there = unpack_words(drop_words(nothing, fields, **{**draw, **other}), fields).double()
    correlations = torch.corrcoef(torch.cat([here, there], dim=1).T).fill_diagonal_(0)
    assert correlations.abs().max() < 6 / rows**0.5


@pytest.mark.usefixtures("fresh_compiler")
@pytest.mark.parametrize("compiler", ["/there/is/no/such-compiler", "false", "cc '-O2"])
def test_without_a_working_compiler_the_reference_makes_the_words(compiler, monkeypatch):
    missing = missing_words(WORTH_COMPILING, 40)
    expected = drop_words(missing, 40, seed=1, step=1, first_row=0, backend="reference")
    monkeypatch.setenv("CC", compiler)
    assert compiled_library() is None
    assert torch.equal(drop_words(missing, 40, seed=1, step=1, first_row=0), expected)


@pytest.mark.usefixtures("fresh_compiler")
def test_no_compiler_on_the_path_is_no_mistake(monkeypatch, tmp_path):
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert compiled_library() is None


@needs_compiler
@pytest.mark.usefixtures("fresh_compiler")
def test_a_compiler_that_does_not_know_the_processor_is_asked_again(monkeypatch, tmp_path):
    compiler = tmp_path / "cc"
    compiler.write_text(
        '#!/bin/sh\ncase "$*" in *-march=native*) exit 1;; esac\nexec cc "$@"\n', encoding="utf-8"
    )
    compiler.chmod(0o755)
    monkeypatch.setenv("CC", str(compiler))
    missing = missing_words(WORTH_COMPILING, 40)
    words = drop_words(missing, 40, seed=1, step=1, first_row=0)
    assert compiled_library() is not None
    expected = drop_words(missing, 40, seed=1, step=1, first_row=0, backend="reference")
    assert torch.equal(words, expected)


@needs_compiler
@pytest.mark.usefixtures("fresh_compiler")
def test_nothing_compiled_is_left_behind_and_few_rows_compile_nothing(monkeypatch, tmp_path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    drop_words(missing_words(WORTH_COMPILING - 1, 32), 32, seed=1, step=1, first_row=0)
    assert compiled_library.cache_info().misses == 0
    drop_words(missing_words(WORTH_COMPILING, 32), 32, seed=1, step=1, first_row=0)
    assert compiled_library.cache_info().misses == 1
    assert not list(Path(tmp_path).iterdir())

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dropdrift.kernels.feature_dropout import (
    drop_words,
    mask_features,
    pack_words,
    unpack_words,
    word_count,
)
from dropdrift.kernels.feature_dropout.forward_process import LEVELS, rate_levels
from dropdrift.kernels.philox import philox4x32


def nothing_missing(rows: int, fields: int) -> torch.Tensor:
    return torch.zeros(rows, word_count(fields), dtype=torch.int32)


@pytest.mark.parametrize(
    ("counter", "seed", "expected"),
    [  # the known answers of the authors' Random123 library
        ((0, 0, 0, 0), 0, (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        (
            (0xFFFFFFFF,) * 4,
            0xFFFFFFFFFFFFFFFF,
            (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD),
        ),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            0x299F31D0A4093822,
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ],
)
def test_philox_gives_the_published_known_answers(counter, seed, expected):
    words = philox4x32(tuple(torch.tensor([c]) for c in counter), seed)
    assert tuple(int(w) for w in words) == expected


@given(st.integers(1, 9), st.integers(1, 130), st.integers(0, 2**32))
@settings(max_examples=40, deadline=None)
def test_packing_and_unpacking_are_inverse(rows, fields, seed):
    flags = torch.from_numpy(np.random.default_rng(seed).random((rows, fields)) < 0.5)
    words = pack_words(flags)
    assert words.dtype == torch.int32
    assert torch.equal(unpack_words(words, fields), flags)


@pytest.mark.parametrize("fields", [1, 7, 33, 200])
def test_number_of_dropped_features_is_uniform(fields):
    rows = 40_000
    words = drop_words(nothing_missing(rows, fields), fields, seed=5, step=3, first_row=0)
    counts = np.bincount(unpack_words(words, fields).sum(1).numpy(), minlength=fields + 1)
    expected = rows / (fields + 1)
    chi_square = ((counts - expected) ** 2 / expected).sum()
    # mean `fields`, standard deviation sqrt(2 fields)
    assert chi_square < fields + 5 * np.sqrt(2 * fields) + 5


def weights_of_levels(levels: int) -> np.ndarray:
    """P(t = 0 .. levels): each j of 0..LEVELS, the ends at half weight, goes to a neighbour of
    j levels / LEVELS, the nearer the likelier.
    """
    weights = np.zeros(levels + 2)
    for j in range(LEVELS + 1):
        whole, rest = divmod(j * levels, LEVELS)
        weight = (0.5 if j in (0, LEVELS) else 1.0) / LEVELS
        weights[whole] += weight * (1 - rest / LEVELS)
        weights[whole + 1] += weight * rest / LEVELS
    assert weights[-1] == 0
    return weights[:-1]


def chances_of_numbers(fields: int, p: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """P(T = 0 .. N) with p distributed by weights."""
    inner = (p > 0) & (p < 1)
    inner_p, inner_weights = p[inner], weights[inner]
    chances = np.empty(fields + 1)
    for k in range(fields + 1):
        choices = math.lgamma(fields + 1) - math.lgamma(k + 1) - math.lgamma(fields - k + 1)
        logarithms = choices + k * np.log(inner_p) + (fields - k) * np.log1p(-inner_p)
        chances[k] = (np.exp(logarithms) * inner_weights).sum()
    chances[0] += weights[p == 0].sum()
    chances[fields] += weights[p == 1].sum()
    return chances


def uniform_chances_of_numbers(fields: int, largest: float) -> np.ndarray:
    """The same for p ~ Uniform(0, largest), by the midpoint rule on a fine grid."""
    points = 1 << 17
    p = largest * (np.arange(points) + 0.5) / points
    return chances_of_numbers(fields, p, np.full(points, 1 / points))


@pytest.mark.parametrize(
    ("fields", "max_rate", "error"),
    [
        (45, 1.0, 1.0e-5),
        (200, 1.0, 2.0e-4),
        (512, 1.0, 1.3e-3),
        (200, 0.9, 3.6e-4),
        (200, 0.5, 2.0e-4),
        (200, 0.3, 2.2e-4),
        (200, 0.1, 2.0e-4),
    ],
)
def test_the_levels_of_p_make_the_number_dropped_uniform(fields, max_rate, error):
    """The figures of docs/numerics.md, of all T that are not a thousand times rarer than 1 / N."""
    levels = rate_levels(max_rate, None)
    p = np.arange(levels + 1) / LEVELS
    exact = uniform_chances_of_numbers(fields, levels / LEVELS)
    if max_rate == 1:
        np.testing.assert_allclose(exact, 1 / (fields + 1), rtol=1e-6)
    likely = exact > 1e-3 / (fields + 1)
    relative = chances_of_numbers(fields, p, weights_of_levels(levels)) / exact - 1
    assert np.abs(relative[likely]).max() == pytest.approx(error, rel=0.05)


@pytest.mark.parametrize("max_rate", [0.3, 0.5])
def test_with_a_largest_rate_the_number_dropped_is_that_of_a_uniform_rate(max_rate):
    rows, fields = 60_000, 33
    words = drop_words(
        nothing_missing(rows, fields), fields, seed=5, step=3, first_row=0, max_rate=max_rate
    )
    counts = np.bincount(unpack_words(words, fields).sum(1).numpy(), minlength=fields + 1)
    expected = rows * uniform_chances_of_numbers(fields, max_rate)
    likely = expected > 10
    chi_square = ((counts - expected)[likely] ** 2 / expected[likely]).sum()
    assert abs(chi_square - likely.sum()) < 5 * np.sqrt(2 * likely.sum())
    assert counts[~likely].sum() < 10 * (~likely).sum()


def test_each_feature_is_dropped_equally_often_given_the_number_dropped():
    rows, fields = 60_000, 10
    words = drop_words(nothing_missing(rows, fields), fields, seed=1, step=0, first_row=0)
    flags = unpack_words(words, fields)
    of_three = flags[flags.sum(1) == 3].double().mean(0)
    standard_error = (0.3 * 0.7 / int((flags.sum(1) == 3).sum())) ** 0.5
    assert (of_three - 0.3).abs().max() < 5 * standard_error


def test_words_do_not_depend_on_how_the_batch_is_cut():
    fields, missing = 70, pack_words(torch.rand(64, 70, generator=torch.manual_seed(0)) < 0.2)
    whole = drop_words(missing, fields, seed=9, step=4, first_row=0)
    parts = [
        drop_words(missing[a:b], fields, seed=9, step=4, first_row=a)
        for a, b in [(0, 1), (1, 40), (40, 64)]
    ]
    assert torch.equal(torch.cat(parts), whole)


@pytest.mark.parametrize("change", [{"seed": 10}, {"seed": 9 + 2**32}, {"step": 5}])
def test_words_change_with_seed_and_step(change):
    key = {"seed": 9, "step": 4, "first_row": 0}
    before = drop_words(nothing_missing(64, 70), 70, **key)
    assert not torch.equal(drop_words(nothing_missing(64, 70), 70, **{**key, **change}), before)


def test_missing_fields_stay_set_and_no_bit_beyond_the_fields_is():
    missing = pack_words(torch.rand(500, 40, generator=torch.manual_seed(0)) < 0.3)
    words = drop_words(missing, 40, seed=2, step=0, first_row=0)
    assert torch.equal(words & missing, missing)
    assert not unpack_words(words, 64)[:, 40:].any()


def test_number_dropped_is_uniform_over_the_present_fields():
    rows, fields, present = 40_000, 40, 8
    flags = torch.ones(rows, fields, dtype=torch.bool)
    flags[:, 3 : 3 + present] = False
    words = drop_words(pack_words(flags), fields, seed=5, step=3, first_row=0)
    dropped = unpack_words(words, fields).sum(1) - (fields - present)
    share = np.bincount(dropped.numpy(), minlength=present + 1) / rows
    assert np.abs(share - 1 / (present + 1)).max() < 0.01


@pytest.mark.parametrize("rate", [0.0, 0.25, 0.5, 0.9, 1.0])
def test_fixed_rate(rate):
    words = drop_words(nothing_missing(4_000, 45), 45, seed=1, step=0, first_row=0, rate=rate)
    share = unpack_words(words, 45).double().mean().item()
    assert abs(share - rate) < 5 * (max(rate * (1 - rate), 0) / (4_000 * 45)) ** 0.5 + 2**-12


def test_largest_rate_bounds_the_number_dropped():
    words = drop_words(nothing_missing(20_000, 64), 64, seed=1, step=0, first_row=0, max_rate=0.3)
    share = unpack_words(words, 64).double().mean().item()
    assert abs(share - 0.15) < 0.005


@pytest.mark.parametrize("rate", [-0.1, 1.5])
def test_impossible_rate_is_refused(rate):
    with pytest.raises(ValueError, match=str(rate)):
        drop_words(nothing_missing(2, 4), 4, seed=1, step=0, first_row=0, rate=rate)


@pytest.mark.parametrize("widths", [[4, 4, 4], [1, 8, 3]])
def test_masking_zeroes_whole_fields_in_value_and_gradient(widths):
    generator = torch.manual_seed(3)
    embedded = torch.randn(6, 12, generator=generator, requires_grad=True)
    flags = torch.rand(6, 3, generator=generator) < 0.5
    columns = torch.arange(3).repeat_interleave(torch.tensor(widths))
    masked = mask_features(embedded, pack_words(flags), widths)
    expected = embedded.detach().masked_fill(flags[:, columns], 0)
    assert torch.equal(masked, expected)
    upstream = torch.randn(6, 12, generator=generator)
    masked.backward(upstream)
    assert torch.equal(embedded.grad, upstream.masked_fill(flags[:, columns], 0))


def test_widths_that_do_not_add_up_are_refused():
    with pytest.raises(ValueError, match="12"):
        mask_features(torch.zeros(2, 12), nothing_missing(2, 3), [4, 4, 5])

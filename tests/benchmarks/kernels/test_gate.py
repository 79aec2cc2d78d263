"""The gate lets right results pass, and finds wrong ones."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from dropdrift.benchmarks.kernels.baselines import draw_mask
from dropdrift.benchmarks.kernels.gate import (
    Tolerance,
    check_mask,
    compare,
    gradient_tolerance,
    output_tolerance,
    uniformity,
)

ROWS, FIELDS = 4_000, 40


@pytest.fixture
def missing() -> Tensor:
    return torch.rand(ROWS, FIELDS, generator=torch.manual_seed(3)) < 0.2


def test_a_mask_with_a_rate_a_row_passes(missing: Tensor) -> None:
    for seed in range(5):
        torch.manual_seed(seed)
        verdict = check_mask(missing, draw_mask(missing))
        assert not verdict.reason
        assert 0 < verdict.error < verdict.tolerance < 0.04


def test_the_tolerance_of_the_share_is_six_deviations() -> None:
    """T uniform on {0..4}: a variance of 2, of T / 4 of 1 / 8; of the mean of 800 rows 1 / 6400."""
    missing = torch.zeros(800, 5, dtype=torch.bool)
    missing[:, 4] = True
    torch.manual_seed(0)
    assert check_mask(missing, draw_mask(missing)).tolerance == pytest.approx(6 / 80)


def test_a_wrong_rate_is_found(missing: Tensor) -> None:
    mask = missing | (torch.rand(ROWS, FIELDS) < 0.9 * torch.rand(ROWS, 1))
    verdict = check_mask(missing, mask)
    assert verdict.error == pytest.approx(0.05, abs=0.01)
    assert verdict.error > verdict.tolerance
    assert verdict.reason


def test_one_rate_for_all_rows_is_found(missing: Tensor) -> None:
    torch.manual_seed(1)
    mask = missing | (torch.rand(ROWS, FIELDS) < 0.5)
    assert "not uniform" in check_mask(missing, mask).reason


def test_a_missing_field_that_is_not_in_the_mask_is_found(missing: Tensor) -> None:
    torch.manual_seed(1)
    mask = draw_mask(missing)
    row, field = missing.nonzero()[77]
    mask[row, field] = False
    assert check_mask(missing, mask).reason == "a missing field is not in the mask"


def test_masks_of_a_few_rows_and_of_no_fields_pass() -> None:
    torch.manual_seed(0)
    assert not check_mask(torch.zeros(1, 3, dtype=torch.bool), torch.ones(1, 3).bool()).reason
    nothing = torch.ones(4, 3, dtype=torch.bool)
    assert not check_mask(nothing, nothing).reason


def test_the_probability_is_that_of_chi_square() -> None:
    """30 rows of 1 field, none dropped: bins of 10 on the left half alone of 3 bins."""
    dropped, present = torch.zeros(30).double(), torch.ones(30).double()
    generator = torch.Generator().manual_seed(0)
    u = torch.rand(30, generator=generator, dtype=torch.float64)
    left = int((u / 2 < 1 / 3).sum())
    chi_square = ((left - 10) ** 2 + (20 - left) ** 2 + 10**2) / 10
    # Of two degrees of freedom the distribution is exponential.
    assert uniformity(dropped, present) == pytest.approx(math.exp(-chi_square / 2))


TOLERANCES = {"y": Tolerance(1e-3, 0.1), "dW": Tolerance(1e-2, 0.5)}


def right() -> dict[str, Tensor]:
    generator = torch.manual_seed(5)
    shapes = {"y": (1_000, 7), "dW": (6,)}
    return {
        name: torch.randn(shape, generator=generator, dtype=torch.float64)
        for name, shape in shapes.items()
    }


def test_the_error_is_that_of_the_tensor_next_to_its_tolerance() -> None:
    expected = right()
    actual = {"y": expected["y"] * (1 + 2e-4), "dW": expected["dW"] * (1 - 5e-3)}
    verdict = compare(actual, expected, TOLERANCES)
    assert not verdict.reason
    assert (verdict.error, verdict.tolerance) == (pytest.approx(5e-3), 1e-2)


def test_a_tensor_that_is_off_is_named() -> None:
    expected = right()
    actual = expected | {"dW": expected["dW"] * 1.02}
    assert compare(actual, expected, TOLERANCES).reason == "dW: the error is 0.02, more than 0.01"


def test_one_wrong_row_is_found_in_a_thousand() -> None:
    expected = right()
    actual = expected["y"].clone()
    actual[123] *= 1.005
    assert not compare({"y": actual}, {"y": expected["y"]}, TOLERANCES).reason
    actual[123] = 1.2 * expected["y"][123]
    loose = {"y": Tolerance(0.1, 0.1)}
    assert "y: a row is off by" in compare({"y": actual}, {"y": expected["y"]}, loose).reason


@pytest.mark.parametrize("where", ["y", "dW"])
def test_what_is_no_number_is_found(where: str) -> None:
    actual = right()
    actual[where].view(-1)[3] = math.nan
    assert f"{where}: the error is nan" in compare(actual, right(), TOLERANCES).reason


def test_nothing_may_be_off_where_nothing_is_computed() -> None:
    exact = dict.fromkeys(TOLERANCES, Tolerance(0.0, 0.0))
    assert not compare(right(), right(), exact).reason
    actual = right()
    actual["y"][0, 0] *= 1 + 1e-15
    assert compare(actual, right(), exact).reason


def test_only_the_kink_of_relu_is_given_room() -> None:
    assert gradient_tolerance("float32", "relu").whole > output_tolerance("float32").whole
    assert gradient_tolerance("float32", "gelu") == output_tolerance("float32")

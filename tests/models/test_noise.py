import pytest
import torch

from dropdrift.models.noise import BLOCK_ROWS, RowNoise


@pytest.mark.parametrize("first_row", [0, 1, BLOCK_ROWS - 1, BLOCK_ROWS, 37])
@pytest.mark.parametrize("rows", [0, 1, 5, 40])
def test_a_rows_numbers_do_not_depend_on_where_the_batch_is_cut(first_row, rows):
    whole = RowNoise(3, 7, 0)
    part = RowNoise(3, 7, first_row)
    cut = slice(first_row, first_row + rows)
    expected = whole.normal(100, 2, 3, purpose="epsilon")[cut]
    assert torch.equal(part.normal(rows, 2, 3, purpose="epsilon"), expected)
    steps = whole.uniform_steps(100, (2,), 50, purpose="step")[cut]
    assert torch.equal(part.uniform_steps(rows, (2,), 50, purpose="step"), steps)


def test_rows_seeds_steps_and_purposes_have_numbers_of_their_own():
    drawn = [
        RowNoise(seed, step, 0).normal(40, 6, purpose=purpose)
        for seed in (0, 1)
        for step in (0, 1)
        for purpose in ("a", "b")
    ]
    assert torch.cat(drawn).unique(dim=0).shape[0] == 40 * len(drawn)


def test_numbers_are_standard_normal_and_steps_uniform():
    normal = RowNoise(0, 0, 0).normal(4000, 10, purpose="a")
    assert abs(normal.mean().item()) < 0.02
    assert abs(normal.var().item() - 1) < 0.03
    steps = RowNoise(0, 0, 0).uniform_steps(4000, (3,), 4, purpose="a")
    counts = torch.bincount(steps.flatten(), minlength=6)
    assert counts[0] == counts[5] == 0
    assert ((counts[1:5] / 12000 - 0.25).abs() < 0.02).all()
    assert (RowNoise(0, 0, 0).uniform_steps(9, (), 1, purpose="a") == 1).all()


def test_the_global_state_is_left_alone():
    before = torch.get_rng_state()
    RowNoise(0, 0, 0).normal(3, 3, purpose="a")
    assert torch.equal(torch.get_rng_state(), before)

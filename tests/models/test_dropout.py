import pytest
import torch

from dropdrift.models.dropout import BLOCK_ROWS, KeyedDropout


@pytest.mark.parametrize("rate", [0.1, 0.5])
def test_rate_and_scale(rate):
    x = torch.ones(200, 50, 4)
    dropped = KeyedDropout(rate, 0, "here")(x, step=3, first_row=0)
    zero = (dropped == 0).float()
    assert abs(zero.mean() - rate) < 0.01
    assert zero.mean((0, 1)).sub(rate).abs().max() < 0.02
    torch.testing.assert_close(dropped[dropped != 0].unique(), torch.tensor([1 / (1 - rate)]))


@pytest.mark.parametrize("start", [0, 1, BLOCK_ROWS - 1, BLOCK_ROWS, 2 * BLOCK_ROWS + 5])
def test_a_row_keeps_its_mask_in_any_part_of_the_batch(start):
    dropout = KeyedDropout(0.5, 7, "here")
    x = torch.ones(100, 5, 3)
    whole = dropout(x, step=2, first_row=10)
    part = dropout(x[start:90], step=2, first_row=10 + start)
    assert torch.equal(part, whole[start:90])


def test_seed_purpose_step_and_row_each_change_the_mask():
    x = torch.ones(3, 64)
    one = KeyedDropout(0.5, 7, "here")(x, 0, 0)
    for other in (
        KeyedDropout(0.5, 8, "here")(x, 0, 0),
        KeyedDropout(0.5, 7, "there")(x, 0, 0),
        KeyedDropout(0.5, 7, "here")(x, 1, 0),
        KeyedDropout(0.5, 7, "here")(x, 0, 1),
    ):
        assert not torch.equal(one, other)
    assert not torch.equal(one[0], one[1])


def test_nothing_is_dropped_outside_training_or_at_rate_0():
    x = torch.randn(3, 4)
    assert KeyedDropout(0.5, 0, "here").eval()(x, 0, 0) is x
    assert KeyedDropout(0.0, 0, "here")(x, 0, 0) is x


def test_no_row():
    assert KeyedDropout(0.5, 0, "here")(torch.ones(0, 4), 0, 5).shape == (0, 4)

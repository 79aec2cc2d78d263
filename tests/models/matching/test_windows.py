import pytest
import torch

from dropdrift.models.matching.windows import windows


@pytest.mark.parametrize("length", [1, 3, 5, 8])
@pytest.mark.parametrize("shape", [(2, 5), (2, 5, 3)])
def test_windows_end_at_their_position_and_are_padded_on_the_left(length, shape):
    sequence = torch.randn(shape, generator=torch.manual_seed(0))
    found = windows(sequence, length, last_only=False)
    assert found.shape == (2, 5, length, *shape[2:])
    for position in range(5):
        for entry in range(length):
            at = position - (length - 1) + entry
            expected = sequence[:, at] if at >= 0 else torch.zeros_like(sequence[:, 0])
            assert torch.equal(found[:, position, entry], expected)
    assert torch.equal(windows(sequence, length, last_only=True), found[:, -1:])


def test_windows_of_flags_are_false_beyond_the_sequence():
    found = windows(torch.ones(1, 2, dtype=torch.bool), 4, last_only=True)
    assert found.tolist() == [[[False, False, True, True]]]

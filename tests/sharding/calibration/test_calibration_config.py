import pytest

from dropdrift.sharding.calibration.config import CalibrationConfig


def test_sizes_are_whole_numbers_for_every_rank():
    assert CalibrationConfig(sizes=(1001, 48, 1000, 50)).whole_sizes(3) == [48, 996]


@pytest.mark.parametrize("sizes", [(1000, 11), (48, 50)])
def test_sizes_that_are_too_small_or_alike_on_these_ranks_are_refused(sizes):
    config = CalibrationConfig(sizes=sizes)
    with pytest.raises(ValueError, match=f"calibration.sizes is {sizes[0]}, .* at least 12 bytes"):
        config.whole_sizes(3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"repeats": 0}, "calibration.repeats is 0"),
        ({"max_rows": 0}, "calibration.max_rows is 0"),
        ({"sizes": ()}, "calibration.sizes is empty"),
        ({"sizes": (8, 8)}, "calibration.sizes is 8, 8, must be at least two different"),
    ],
)
def test_what_measures_nothing_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        CalibrationConfig(**options)

"""Amounts and lists of names in words."""

from __future__ import annotations

import pytest

from dropdrift.sharding.wording import counted, digits, gib, listed


@pytest.mark.parametrize(
    ("number", "shown"),
    [
        (0, "0"),
        (0.0004, "0"),
        (0.0123, "0.012"),
        (0.12, "0.12"),
        (0.0996, "0.10"),
        (1.236, "1.24"),
        (9.994, "9.99"),
        (9.996, "10.0"),
        (24.31, "24.3"),
        (99.96, "100"),
        (1234.5, "1,234"),
        (-3.5, "-3.50"),
    ],
)
def test_three_digits(number: float, shown: str) -> None:
    assert digits(number) == shown


def test_bytes_in_gib() -> None:
    assert gib(3 * 2**29) == "1.50"


def test_one_and_several() -> None:
    assert [counted(count, "rank") for count in (0, 1, 1_024)] == [
        "0 ranks",
        "1 rank",
        "1,024 ranks",
    ]


def test_long_lists_are_cut() -> None:
    assert listed(["a", "b"], 2) == "a, b"
    assert listed(["a", "b", "c", "d"], 2) == "a, b and 2 more"

from __future__ import annotations

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from dropdrift.data.config import SequenceConfig
from dropdrift.data.interactions.protocols import TrainingUsers
from dropdrift.data.interactions.training_rows import OneStretch, Stretches, Windows

lengths = st.lists(st.integers(2, 60), min_size=1, max_size=20)


def users(each: list[int]) -> TrainingUsers:
    """Users of these lengths, with gaps between what they may be trained on."""
    starts = np.cumsum([3, *(length + 2 for length in each)])[:-1]
    shortest = np.minimum(4, np.array(each) - 1)
    return TrainingUsers(np.arange(len(each)) * 3, starts, starts + each, shortest)


@given(lengths, st.integers(2, 30), st.integers(0, 5), st.integers(0, 5))
def test_stretches_partition_the_targets(
    each: list[int], length: int, seed: int, epoch: int
) -> None:
    chosen = users(each)
    stretches = Stretches(chosen, length, seed)
    rows = stretches.rows(np.arange(len(stretches)), epoch)
    found = list(zip(rows.starts.tolist(), rows.stops.tolist(), strict=True))
    assert all(0 < stop - start <= length for start, stop in found)
    for start, stop in zip(chosen.starts.tolist(), chosen.stops.tolist(), strict=True):
        own = [row for row in found if start <= row[0] < stop]
        assert len(own) == -(-(stop - start - 1) // length)
        assert own[0][0] == start
        assert own[-1][1] == stop - 1
        assert all(left[1] == right[0] for left, right in pairwise(own))


@given(lengths, st.integers(2, 30), st.integers(0, 5), st.integers(0, 5))
def test_one_stretch_of_each_user_is_as_long_as_may_be(
    each: list[int], length: int, seed: int, epoch: int
) -> None:
    chosen = users(each)
    rows = OneStretch(chosen, length, seed).rows(np.arange(len(each)), epoch)
    assert (rows.stops - rows.starts == np.minimum(np.array(each) - 1, length)).all()
    assert (rows.starts >= chosen.starts).all()
    assert (rows.stops < chosen.stops).all()


def test_one_stretch_begins_anywhere() -> None:
    stretches = OneStretch(users([9]), 4, seed=0)
    assert {int(stretches.rows(np.arange(1), epoch).starts[0]) for epoch in range(100)} == set(
        range(3, 8)
    )


@given(lengths, st.integers(1, 30), st.integers(1, 12), st.integers(0, 5), st.booleans())
def test_windows_end_before_distinct_targets(
    each: list[int], window: int, count: int, seed: int, fixed: bool
) -> None:
    chosen = users(each)
    config = SequenceConfig(window=window, windows_per_user=count, fixed_windows=fixed)
    windows = Windows(chosen, config, seed)
    rows = windows.rows(np.arange(len(windows)), epoch=3)
    again = windows.rows(np.arange(len(windows)), epoch=3 + fixed)
    assert rows.stops.tolist() == again.stops.tolist()
    for user, start in enumerate(chosen.starts):
        stops = rows.stops[user * count : (user + 1) * count]
        choices = np.arange(start + chosen.shortest[user], chosen.stops[user])
        assert np.isin(stops, choices).all()
        assert len(np.unique(stops)) == min(count, len(choices))
        starts = rows.starts[user * count : (user + 1) * count]
        assert starts.tolist() == np.maximum(start, stops - window).tolist()


def test_every_cut_and_every_target_comes_up() -> None:
    """User 0 has 9 targets in stretches of 4, so 4 ways to cut; user 1 has 12, so one."""
    chosen = users([10, 13])
    stretches = Stretches(chosen, 4, seed=0)
    cuts = {tuple(stretches.rows(np.arange(6), epoch).stops.tolist()) for epoch in range(100)}
    assert len(cuts) == 4
    config = SequenceConfig(window=5, windows_per_user=1, fixed_windows=False)
    windows = Windows(chosen, config, seed=0)
    drawn = np.array([windows.rows(np.arange(2), epoch).stops for epoch in range(3000)])
    for user in range(2):
        _, counts = np.unique(drawn[:, user], return_counts=True)
        assert len(counts) == [6, 9][user]
        share = 3000 / len(counts)
        assert np.abs(counts - share).max() < 5 * np.sqrt(share)

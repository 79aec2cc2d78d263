"""Timing: in turn, twice, in blocks, and what is made of the samples."""

from __future__ import annotations

import pytest
import torch

from dropdrift.benchmarks.kernels import timing
from dropdrift.benchmarks.kernels.timing import Contender, time_in_turn

CPU = torch.device("cpu")


def test_percentiles_are_of_the_first_measurement() -> None:
    contender = Contender(lambda _: int)
    contender.samples[0].extend([6.0, 1.0, 2.0, 4.0, 3.0, 5.0])
    contender.samples[1].extend([9.0, 7.0, 30.0])
    contender.calls[:] = [12, 6]
    made = contender.timing()
    assert (made.p20_ms, made.median_ms, made.p80_ms) == (2.0, 3.5, 5.0)
    assert (made.repeated_median_ms, made.calls) == (9.0, 12)


def test_all_are_timed_in_turn_and_as_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "BLOCK_MS", 1e-9)
    order: list[str] = []
    advanced: list[int] = []

    def contender(name: str) -> Contender:
        return Contender(lambda _: lambda: order.append(name))

    contenders = [contender(name) for name in "abc"]
    time_in_turn(contenders, 1e-9, CPU, lambda: advanced.append(len(order)))
    rounds = ["".join(order[at : at + 3]) for at in range(len("aabbcc"), len(order), 3)]
    assert order[:6] == list("aabbcc")  # how long a block must be
    assert rounds == ["abc", "bca", "cab", "abc", "bca"] * 2
    assert [at - 6 for at in advanced] == [15, 30]
    assert [[len(samples) for samples in c.samples] for c in contenders] == [[5, 5]] * 3
    assert [c.calls for c in contenders] == [[5, 5]] * 3


class Clock:
    """Seconds that pass only where a test says so: a busy machine changes nothing."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def perf_counter(self) -> float:
        return self.seconds

    def taking(self, milliseconds: float):
        def call() -> None:
            self.seconds += 1e-3 * milliseconds

        return call


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(timing, "time", clock)
    return clock


def test_a_measurement_takes_its_time(clock: Clock) -> None:
    """Rounds of 20 and 40 ms until 2 x 500 ms have gone, twice."""
    quick, slow = (Contender(lambda _, ms=ms: clock.taking(ms)) for ms in (1.0, 40.0))
    time_in_turn([quick, slow], 0.5, CPU)
    assert [len(samples) for samples in (*quick.samples, *slow.samples)] == [17] * 4
    assert (quick.calls, slow.calls) == ([17 * 20] * 2, [17] * 2)
    assert quick.timing().median_ms == pytest.approx(1.0)
    assert slow.timing().repeated_median_ms == pytest.approx(40.0)


def test_short_calls_are_timed_in_blocks(clock: Clock) -> None:
    """50 calls of 0.4 ms make 20 ms: what prepares a call is not timed."""
    numbers: list[int] = []

    def prepare(number: int):
        numbers.append(number)
        clock.seconds += 7.0
        return clock.taking(0.4)

    contender = Contender(prepare)
    time_in_turn([contender], 1e-9, CPU)
    assert contender.calls == [5 * 50, 5 * 50]
    assert contender.samples == ([pytest.approx(0.4)] * 5, [pytest.approx(0.4)] * 5)
    # After two calls that tell how long one takes, the inputs go on from block to block.
    assert numbers == [0, 0, *range(250), *range(250)]


def test_a_replay_counts_as_the_calls_in_it(clock: Clock) -> None:
    contender = Contender(lambda _: clock.taking(40.0), calls_in_one=8)
    time_in_turn([contender], 1e-9, CPU)
    assert contender.calls == [40, 40]
    assert contender.timing().median_ms == pytest.approx(5.0)

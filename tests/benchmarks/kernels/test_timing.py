"""Timing: in turn, twice, in blocks, and what is made of the samples."""

from __future__ import annotations

import time

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


def test_a_measurement_takes_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "BLOCK_MS", 1.0)
    contenders = [Contender(lambda _: lambda: time.sleep(0.001)) for _ in range(2)]
    started = time.perf_counter()
    time_in_turn(contenders, 0.05, CPU)
    assert time.perf_counter() - started > 2 * 2 * 0.05
    assert min(min(c.samples[0]) for c in contenders) >= 1.0


def test_short_calls_are_timed_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """2 ms of work in 20 calls: what prepares a call is not timed."""
    monkeypatch.setattr(timing, "BLOCK_MS", 2.0)
    numbers: list[int] = []

    def prepare(number: int):
        numbers.append(number)
        time.sleep(0.0005)
        return lambda: time.sleep(0.0001)

    contender = Contender(prepare)
    time_in_turn([contender], 1e-9, CPU)
    blocks = (len(numbers) - 2) / 10
    assert 3 <= blocks <= 20
    assert contender.calls[0] == contender.calls[1] == 5 * blocks
    assert all(0.1 <= sample < 0.5 for sample in contender.samples[0])
    # The inputs go on from block to block.
    assert numbers[2 : 2 + 5 * int(blocks)] == list(range(5 * int(blocks)))


def test_a_replay_counts_as_the_calls_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "BLOCK_MS", 1.0)
    contender = Contender(lambda _: lambda: time.sleep(0.004), calls_in_one=8)
    time_in_turn([contender], 1e-9, CPU)
    assert contender.calls == [40, 40]
    assert all(0.5 <= sample < 2 for sample in contender.samples[0])

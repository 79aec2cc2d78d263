"""Timing of calls, in turn, so that a machine whose speed drifts slows all of them."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from dropdrift.benchmarks.kernels.calls import Prepare
from dropdrift.benchmarks.kernels.cuda_events import event_times
from dropdrift.benchmarks.kernels.record import Timing

# Calls are timed in blocks of so many milliseconds at least: a short one is lost in the noise.
BLOCK_MS = 20.0
# Rounds of all contenders in a measurement, however slow they are.
LEAST_ROUNDS = 5
MEASUREMENTS = 2


@dataclass
class Contender:
    """Calls that are timed.

    Attributes:
        prepare: makes a call ready.
        calls_in_one: what it calls counts as so many, as the replay of a graph does.
        samples: milliseconds a call, of each measurement: on a CPU a mean over a block, on a GPU
            one for each call.
        calls: calls timed in each measurement.
    """

    prepare: Prepare
    calls_in_one: int = 1
    samples: tuple[list[float], ...] = field(
        default_factory=lambda: tuple([] for _ in range(MEASUREMENTS))
    )
    calls: list[int] = field(default_factory=lambda: [0] * MEASUREMENTS)

    def timing(self) -> Timing:
        """What was measured."""
        p20, median, p80 = np.percentile(self.samples[0], (20, 50, 80)).tolist()
        repeated = float(np.median(self.samples[1]))
        return Timing(median, p20, p80, repeated, self.calls[0], len(self.samples[0]))


def time_in_turn(
    contenders: Sequence[Contender],
    seconds: float,
    device: torch.device,
    advance: Callable[[], None] = lambda: None,
) -> None:
    """Time all contenders, twice, and note the times in them.

    Args:
        contenders: which; they have been called before.
        seconds: how long each is timed, on average, in a measurement.
        device: where they run.
        advance: is called when a measurement ends.
    """
    blocks = [_block_length(contender, device) for contender in contenders]
    for measurement in range(MEASUREMENTS):
        ends, rounds = time.perf_counter() + seconds * len(contenders), 0
        while contenders and (rounds < LEAST_ROUNDS or time.perf_counter() < ends):
            for place in range(len(contenders)):
                # Each follows on each of the others as often: what one leaves in caches slows none.
                chosen = (place + rounds) % len(contenders)
                contender, length = contenders[chosen], blocks[chosen]
                times = _times(contender, contender.calls[measurement], length, device)
                contender.samples[measurement].extend(times)
                contender.calls[measurement] += length * contender.calls_in_one
            rounds += 1
        advance()


def _block_length(contender: Contender, device: torch.device) -> int:
    """Calls that a block needs, judged by a warm one."""
    _times(contender, 0, 1, device)
    milliseconds = _times(contender, 0, 1, device)[0] * contender.calls_in_one
    return math.ceil(BLOCK_MS / max(milliseconds, 1e-3))


def _times(contender: Contender, first: int, calls: int, device: torch.device) -> list[float]:
    numbers = range(first, first + calls)
    if device.type == "cuda":
        times = event_times(contender.prepare, numbers)
    else:
        times = [_mean_time(contender.prepare, numbers)]
    return [milliseconds / contender.calls_in_one for milliseconds in times]


def _mean_time(prepare: Prepare, numbers: Sequence[int]) -> float:
    """Milliseconds a call on the CPU."""
    total = 0.0
    for number in numbers:
        call = prepare(number)
        started = time.perf_counter()
        result = call()
        total += time.perf_counter() - started
        del result  # giving the memory back is not part of the call
    return 1e3 * total / len(numbers)

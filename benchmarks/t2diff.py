"""What a user's vector costs with T2Diff's reverse process, without it, and with SASRec.

Legend: B users of a batch, L positions, K items, d width.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torchrec.sparse.jagged_tensor import KeyedJaggedTensor

from dropdrift.benchmarks.config import T2DiffOptions
from dropdrift.benchmarks.contenders import (
    CHECKED_USERS,
    LAST,
    SASREC,
    Contender,
    check_contender,
    make_contenders,
)
from dropdrift.benchmarks.machine import choose_device, device_name, load_average
from dropdrift.benchmarks.spread import Spread
from dropdrift.data.batch import SequenceBatch
from dropdrift.data.interactions.catalogue import Catalogue
from dropdrift.data.interactions.sequences import Sequences
from dropdrift.data.schema import Schema
from dropdrift.training.compiler import require_compiler
from dropdrift.training.retrieval.histories import Histories

# Calls are repeated until so many seconds have gone: one of a small tower is too short to be timed.
SECONDS = 0.1


@dataclass(frozen=True)
class Cost:
    """What one contender costs.

    Attributes:
        name: which.
        batched_ms: milliseconds a user, many at once.
        cpu_ms: the processor's time of it, which other work on the machine leaves nearly alone;
            with a GPU, that of the calling program.
        single_ms: milliseconds of a request with one user.
        to_sasrec: ``batched_ms`` over SASRec's, repetition by repetition.
        to_last: the same over T2Diff's without a reverse process.
        error: relative error of the drifts against the plain reverse process.
    """

    name: str
    batched_ms: Spread
    cpu_ms: Spread
    single_ms: Spread
    to_sasrec: Spread
    to_last: Spread
    error: float


@dataclass(frozen=True)
class WidthCosts:
    """The costs at one width."""

    width: int
    costs: list[Cost]


@dataclass(frozen=True)
class UserCosts:
    """What was measured, and on what.

    Attributes:
        widths: each by itself.
        device: the GPU's name, or cpu.
        threads: that torch may use on the CPU.
        load: the machine's load average over the last minute, when it began and when it ended.
        items: of the catalogue.
    """

    widths: list[WidthCosts]
    device: str
    threads: int
    load: tuple[float, float]
    items: int


def measure_user_costs(
    options: T2DiffOptions, progress: Callable[[str], None] = lambda _: None
) -> UserCosts:
    """Check, then time, all contenders in turn, so that a machine whose speed drifts slows all.

    Args:
        options: see there.
        progress: is told what is done.

    Raises:
        ValueError: no GPU, no compiler, or data that cannot be used.
        WrongResultError: a tower does not compute what it should.
    """
    began = load_average()
    device = choose_device(options.device)
    if options.compile:
        require_compiler(device)
    histories, items = _histories(options)
    batches, single = (
        _batches(histories, size, options.window, device) for size in (options.batch_size, 1)
    )
    widths = []
    for width in options.widths:
        generator = torch.Generator().manual_seed(options.seed)
        x = (torch.randn(items, width, generator=generator) * width**-0.5).to(device)
        contenders = make_contenders(options, x)
        progress(f"width {width}: checking {len(contenders)} contenders")
        errors = [_check(contender, x, histories, options) for contender in contenders]
        timings = []
        for repetition in range(-1, options.repetitions):  # the first one warms up
            progress(f"width {width}: repetition {max(repetition + 1, 0)} of {options.repetitions}")
            seconds = SECONDS if repetition >= 0 else 0.0
            timings.append(_repetition(contenders, batches, single, repetition, seconds))
        widths.append(WidthCosts(width, _costs(contenders, timings[1:], errors)))
    load = began, load_average()
    return UserCosts(widths, device_name(device), torch.get_num_threads(), load, items)


def _check(
    contender: Contender, x: torch.Tensor, histories: Histories, options: T2DiffOptions
) -> float:
    """The larger error of a batch and of one user, each in the layout that is timed."""
    size = min(options.batch_size, CHECKED_USERS)
    if options.compile:  # another size would be compiled anew
        size = options.batch_size
    errors = []
    for users in (size, 1):
        batch = _batch(histories, np.arange(users), options.window).to(x.device)
        errors.append(check_contender(contender, x, batch, options.seed))
    return max(errors)


# Milliseconds a user in a batch, the processor's, and of one user, of each contender.
Timing = tuple[float, float, float]


def _repetition(
    contenders: Sequence[Contender],
    batches: list[SequenceBatch],
    single: list[SequenceBatch],
    repetition: int,
    seconds: float,
) -> list[Timing]:
    timings = []
    for contender in contenders:
        wall, processor = _time(contender, batches, repetition, seconds)
        alone, _ = _time(contender, single, repetition, seconds)
        timings.append((wall, processor, alone))
    return timings


def _time(
    contender: Contender, batches: list[SequenceBatch], first: int, seconds: float
) -> tuple[float, float]:
    """Milliseconds a user, and the processor's, of batches from the ``first`` on."""
    device = batches[0].items.device
    users = 0
    processor, started = time.process_time(), time.perf_counter()
    while not users or time.perf_counter() - started < seconds:
        batch = batches[first % len(batches)]
        contender.call(batch)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        users += batch.rows
        first += 1
    wall = time.perf_counter() - started
    return 1e3 * wall / users, 1e3 * (time.process_time() - processor) / users


def _costs(
    contenders: Sequence[Contender], timings: Sequence[list[Timing]], errors: Sequence[float]
) -> list[Cost]:
    names = [contender.name for contender in contenders]
    sasrec, last = names.index(SASREC), names.index(LAST)
    costs = []
    for index, (name, error) in enumerate(zip(names, errors, strict=True)):
        batched, processor, alone = zip(*(timing[index] for timing in timings), strict=True)
        to_sasrec, to_last = (
            Spread.of([timing[index][0] / timing[base][0] for timing in timings])
            for base in (sasrec, last)
        )
        spreads = (Spread.of(batched), Spread.of(processor), Spread.of(alone))
        costs.append(Cost(name, *spreads, to_sasrec, to_last, error))
    return costs


def _histories(options: T2DiffOptions) -> tuple[Histories, int]:
    """Those of the users, and the number of items."""
    generator = np.random.default_rng(options.seed)
    if options.data is not None:
        schema = Schema.load(options.data)
        sequences = Sequences.load(options.data, schema)
        catalogue = Catalogue.load(options.data, schema)
        catalogue.check(sequences, options.data)
        if len(sequences) < options.users:
            raise ValueError(
                f"users is {options.users}, but {options.data} has {len(sequences)}: lower users "
                "and batch-size"
            )
        chosen = generator.permutation(len(sequences))[: options.users]
        return Histories.of(sequences, chosen), len(catalogue)
    offsets = np.arange(options.users + 1) * options.window
    rows = generator.integers(options.items, size=offsets[-1])
    return Histories(offsets, rows, np.tile(np.arange(options.window), options.users)), (
        options.items
    )


def _batches(
    histories: Histories, size: int, window: int, device: torch.device
) -> list[SequenceBatch]:
    """All whole batches."""
    starts = range(0, len(histories) - size + 1, size)
    return [
        _batch(histories, np.arange(start, start + size), window).to(device) for start in starts
    ]


def _batch(histories: Histories, users: np.ndarray, window: int) -> SequenceBatch:
    return histories.take(users).batch(window, KeyedJaggedTensor.empty(), int(users[0]))

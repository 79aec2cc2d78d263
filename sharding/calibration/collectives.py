"""The collectives of sharded tables, timed, and the line through their times."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal, get_args

import numpy as np
import torch
import torch.distributed as dist

from dropdrift.sharding.advance import Advance, silent
from dropdrift.sharding.calibration.config import NUMBER_BYTES, CalibrationConfig
from dropdrift.sharding.calibration.timing import (
    WARM_UP,
    ranks_of,
    time_together,
)

Collective = Literal["all_to_all", "reduce_scatter"]

COLLECTIVES: tuple[Collective, ...] = get_args(Collective)


@dataclass(frozen=True)
class CollectiveTiming:
    """One collective at one size.

    Attributes:
        collective: which one.
        size: bytes of the fp32 tensor that each rank puts in, the part that it keeps for itself
            among them. That is what TorchRec's estimate divides by the bandwidth: the outputs of
            a rank's tables for the rows of all ranks, its own too.
        ranks: that took part.
        ranks_per_node: ranks that share a machine.
        times_ms: every repetition, on the slowest rank.
    """

    collective: Collective
    size: int
    ranks: int
    ranks_per_node: int
    times_ms: tuple[float, ...]

    @property
    def crosses_nodes(self) -> bool:
        """Whether it went over the network, by TorchRec's rule for which bandwidth counts."""
        return self.ranks > self.ranks_per_node


@dataclass(frozen=True)
class Line:
    """``time = latency + size / bandwidth`` of one collective.

    Attributes:
        collective: which one.
        latency_ms: what an exchange of nothing would take. TorchRec's estimate has none.
        gb_per_s: the bandwidth, in 1e9 bytes a second of ``CollectiveTiming.size``.
    """

    collective: Collective
    latency_ms: float
    gb_per_s: float


def measure_collectives(
    group: dist.ProcessGroup,
    device: torch.device,
    ranks_per_node: int,
    config: CalibrationConfig,
    *,
    advance: Advance = silent,
) -> list[CollectiveTiming]:
    """Time all-to-all and reduce-scatter of fp32; every rank of ``group`` must call.

    gloo and NCCL have both; only gloo's have run so far.

    Args:
        group: the ranks; of one alone nothing is measured, as it exchanges nothing.
        device: of the tensors.
        ranks_per_node: ranks that share a machine.
        config: sizes and repetitions.
        advance: called with the collective of each measurement that is done.

    Raises:
        ValueError: a size is too small for so many ranks.
    """
    ranks = ranks_of(group)
    if ranks == 1:
        return []
    timings = []
    for collective in COLLECTIVES:
        for size in config.whole_sizes(ranks):
            action = exchange(collective, size, group, device)
            times = [
                time_together(action, device, group)[0] for _ in range(WARM_UP + config.repeats)
            ]
            timings.append(
                CollectiveTiming(collective, size, ranks, ranks_per_node, tuple(times[WARM_UP:]))
            )
            advance(collective)
    return timings


def exchange(
    collective: Collective, size: int, group: dist.ProcessGroup, device: torch.device
) -> partial[object]:
    """The call of a collective with ``size`` bytes of ones from each rank."""
    given = torch.ones(size // NUMBER_BYTES, device=device)
    if collective == "all_to_all":
        return partial(dist.all_to_all_single, torch.empty_like(given), given, group=group)
    part = torch.empty(len(given) // dist.get_world_size(group), device=device)
    return partial(dist.reduce_scatter_single, part, given, group=group)


def fit_line(timings: Sequence[CollectiveTiming]) -> Line:
    """The line through the medians of one collective, by least squares of the relative errors.

    Raises:
        ValueError: fewer than two sizes, or times that do not grow with the size.
    """
    (collective,) = {timing.collective for timing in timings}
    if len({timing.size for timing in timings}) < 2:
        raise ValueError(f"{collective} was measured at one size, which gives no bandwidth")
    sizes = np.array([timing.size for timing in timings], np.float64)
    times = np.array([statistics.median(timing.times_ms) for timing in timings])
    columns = np.stack([1 / times, sizes / times], axis=1)
    latency, ms_per_byte = np.linalg.lstsq(columns, np.ones(len(times)), rcond=None)[0]
    if latency < 0:
        slope = columns[:, 1]
        latency, ms_per_byte = 0.0, slope.sum() / (slope @ slope)
    if ms_per_byte <= 0:
        raise ValueError(
            f"{collective}: times do not grow with the size up to {int(sizes.max())} bytes, "
            "measure larger ones"
        )
    return Line(collective, float(latency), float(1e-6 / ms_per_byte))


def fit_lines(timings: Sequence[CollectiveTiming]) -> list[Line]:
    """A line for each collective that was measured."""
    return [
        fit_line(of_one)
        for collective in COLLECTIVES
        if (of_one := [timing for timing in timings if timing.collective == collective])
    ]

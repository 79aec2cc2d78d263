"""The hardware whose figures make TorchRec's estimates agree best with what was measured."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from math import exp, log

from dropdrift.sharding.calibration.collectives import CollectiveTiming, fit_lines
from dropdrift.sharding.calibration.estimates import estimate_lookups
from dropdrift.sharding.calibration.lookups import LookupTiming
from dropdrift.sharding.cluster import Cluster
from dropdrift.sharding.hardware import FIGURES, Hardware


def fit_hardware(
    cluster: Cluster,
    lookups: Sequence[LookupTiming],
    collectives: Sequence[CollectiveTiming],
    *,
    name: str,
    machine: str,
    day: date,
) -> Hardware:
    """The cluster's hardware with the bandwidths that the measurements give.

    The memory's bandwidth (a GPU's, or on a CPU the host's) is fitted by least squares of the
    logarithms of estimate over measurement, over the forward and the backward of all tables. A
    link's is the slope of the line through an exchange's times, the geometric mean over the
    collectives, since TorchRec has one figure for all; it is the figure that makes the estimates of
    large exchanges right, as TorchRec has no latency. What was not measured stays as it was.

    A host's bandwidth is that of as many ranks as were measured, and one rank does not use all of
    it: on a CPU, measure with the ranks that a node will have, which become the hardware's.

    Args:
        cluster: that was measured, with the hardware to begin with.
        lookups: timings on this cluster.
        collectives: timings on this cluster, or none.
        name: of the new hardware.
        machine: what it was measured on.
        day: when.
    """
    base = cluster.hardware
    memory = "hbm_gb_per_s" if base.device == "cuda" else "host_gb_per_s"
    figures = {memory: getattr(base, memory) * _speed_up(cluster, lookups)}
    origin = f"measured on {day.isoformat()} on {machine}"
    sources = {memory: f"{origin}: {_of_lookups(lookups)}"}
    for link, crosses in (("intra_node_gb_per_s", False), ("inter_node_gb_per_s", True)):
        timings = [timing for timing in collectives if timing.crosses_nodes == crosses]
        if timings:
            lines = fit_lines(timings)
            figures[link] = statistics.geometric_mean(line.gb_per_s for line in lines)
            sources[link] = f"{origin}: {_of_collectives(timings)}"
    if base.device == "cpu":
        figures["gpus_per_node"] = cluster.ranks_per_node
        sources["gpus_per_node"] = f"{origin}: the ranks of a node that measured"
    every_source = {
        figure: sources.get(figure, f"not measured, from {base.name}: {base.sources[figure]}")
        for figure in FIGURES
    }
    return replace(base, name=name, sources=every_source, **figures)


def _speed_up(cluster: Cluster, lookups: Sequence[LookupTiming]) -> float:
    """By what to multiply the bandwidth, as every estimate of a lookup is bytes over bandwidth."""
    ratios = []
    for timing, estimate in zip(lookups, estimate_lookups(lookups, cluster), strict=True):
        ratios.append(log(estimate.forward_ms / statistics.median(timing.forward_ms)))
        ratios.append(log(estimate.backward_ms / statistics.median(timing.backward_ms)))
    return exp(statistics.fmean(ratios))


def _of_lookups(lookups: Sequence[LookupTiming]) -> str:
    first, cut = lookups[0], sum(timing.is_cut for timing in lookups)
    return (
        f"lookups and backwards of {len(lookups)} tables ({cut} of them cut), "
        f"{first.rows_per_rank} rows a rank, ranks: {first.ranks}, "
        f"medians of {len(first.forward_ms)}"
    )


def _of_collectives(timings: Sequence[CollectiveTiming]) -> str:
    first = timings[0]
    names = sorted({timing.collective for timing in timings})
    sizes = sorted({timing.size for timing in timings})
    return (
        f"{' and '.join(names)} of {sizes[0]} to {sizes[-1]} bytes, ranks: {first.ranks}, "
        f"medians of {len(first.times_ms)}"
    )

"""One calibration: measure, fit, compare."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

import torch
import torch.distributed as dist

from dropdrift.sharding.advance import Advance, silent
from dropdrift.sharding.calibration.collectives import (
    COLLECTIVES,
    CollectiveTiming,
    Line,
    fit_lines,
    measure_collectives,
)
from dropdrift.sharding.calibration.comparison import Comparison, compare
from dropdrift.sharding.calibration.config import CalibrationConfig
from dropdrift.sharding.calibration.fit import fit_hardware
from dropdrift.sharding.calibration.lookups import LookupTiming, measure_lookups
from dropdrift.sharding.calibration.tables import LookupTable
from dropdrift.sharding.cluster import Cluster
from dropdrift.sharding.hardware import Hardware


@dataclass(frozen=True)
class Calibration:
    """What was measured and what follows from it; the same on every rank.

    Attributes:
        hardware: the fitted one.
        lookups: timings of every table.
        collectives: timings of every collective and size; empty on one rank.
        lines: latency and bandwidth of every collective; empty on one rank.
        comparison: estimates beside measurements.
    """

    hardware: Hardware
    lookups: tuple[LookupTiming, ...]
    collectives: tuple[CollectiveTiming, ...]
    lines: tuple[Line, ...]
    comparison: Comparison


def calibrate(
    cluster: Cluster,
    tables: Sequence[LookupTable],
    rows_per_rank: int,
    config: CalibrationConfig,
    *,
    group: dist.ProcessGroup,
    device: torch.device,
    name: str,
    machine: str,
    day: date,
    advance: Advance = silent,
) -> Calibration:
    """Measure the machines of ``group``, fit ``cluster``'s hardware to them and compare.

    Args:
        cluster: the machines of the group, with the hardware to begin with.
        tables: whose lookups to time.
        rows_per_rank: rows of a batch on one rank.
        config: how much to measure.
        group: every rank of it must call.
        device: this rank's.
        name: of the fitted hardware.
        machine: what is measured, for the sources of its figures.
        day: for the sources too.
        advance: called after each of the :func:`number_of_steps` with what is done.

    Raises:
        ValueError: the cluster is not the group's, there are no tables or rows, a size is too
            small, or an exchange's times do not grow with its size.
    """
    if cluster.device != device.type:
        raise ValueError(
            f"hardware {cluster.hardware.name} has device {cluster.device}, but the machine to be "
            f"measured has {device.type}"
        )
    if cluster.world_size != dist.get_world_size(group):
        raise ValueError(
            f"the cluster has {cluster.world_size} ranks, but {dist.get_world_size(group)} measure"
        )
    # Before the lookups, which take longer than to find a mistake here.
    number_of_steps(tables, config, cluster.world_size)
    lookups = measure_lookups(tables, rows_per_rank, device, config, group=group, advance=advance)
    collectives = measure_collectives(
        group, device, cluster.ranks_per_node, config, advance=advance
    )
    hardware = fit_hardware(cluster, lookups, collectives, name=name, machine=machine, day=day)
    return Calibration(
        hardware=hardware,
        lookups=tuple(lookups),
        collectives=tuple(collectives),
        lines=tuple(fit_lines(collectives)),
        comparison=compare(cluster, hardware, lookups, collectives),
    )


def number_of_steps(tables: Sequence[LookupTable], config: CalibrationConfig, ranks: int) -> int:
    """How often :func:`calibrate` calls ``advance``; ValueError for sizes that are too small."""
    exchanges = len(COLLECTIVES) * len(config.whole_sizes(ranks)) if ranks > 1 else 0
    return len(tables) + exchanges

"""Estimates before and after the fit beside what was measured."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import exp, log
from typing import Literal

from dropdrift.sharding.calibration.collectives import CollectiveTiming
from dropdrift.sharding.calibration.estimates import estimate_collective, estimate_lookups
from dropdrift.sharding.calibration.lookups import LookupTiming
from dropdrift.sharding.cluster import Cluster
from dropdrift.sharding.hardware import Hardware

Part = Literal["forward", "backward"]


@dataclass(frozen=True)
class Compared:
    """TorchRec's estimates of one time and the time itself, in milliseconds.

    Attributes:
        before_ms: estimate with the hardware to begin with.
        after_ms: estimate with the fitted hardware.
        measured_ms: median of the repetitions.
    """

    before_ms: float
    after_ms: float
    measured_ms: float

    @property
    def ratio_before(self) -> float:
        """Estimate before the fit over measurement: above 1, the estimate is too slow."""
        return self.before_ms / self.measured_ms

    @property
    def ratio_after(self) -> float:
        """Estimate after the fit over measurement: above 1, the estimate is too slow."""
        return self.after_ms / self.measured_ms


@dataclass(frozen=True)
class LookupRow:
    """One part of one table's lookups."""

    timing: LookupTiming
    part: Part
    times: Compared


@dataclass(frozen=True)
class CollectiveRow:
    """One collective at one size."""

    timing: CollectiveTiming
    times: Compared


@dataclass(frozen=True)
class Agreement:
    """How far estimates are from measurements: exp of the median absolute logarithm of the ratio.

    Half of the estimates are within this factor of what was measured, up or down; 1 is perfect.

    Attributes:
        before: the fit.
        after: the fit.
    """

    before: float
    after: float

    @staticmethod
    def of(times: Sequence[Compared]) -> Agreement:
        """The agreement over at least one row."""
        return Agreement(
            before=exp(statistics.median(abs(log(time.ratio_before)) for time in times)),
            after=exp(statistics.median(abs(log(time.ratio_after)) for time in times)),
        )


@dataclass(frozen=True)
class Comparison:
    """All rows of a calibration.

    Attributes:
        lookups: forward and backward of each table, in the order of the tables.
        collectives: empty where none were measured.
    """

    lookups: tuple[LookupRow, ...]
    collectives: tuple[CollectiveRow, ...]

    def agreement_of_lookups(self, *parts: Part) -> Agreement:
        """Over all tables, of the named parts or of both."""
        return Agreement.of([row.times for row in self.lookups if not parts or row.part in parts])

    def agreement_of_collectives(self) -> Agreement | None:
        """Over all collectives and sizes; None where none were measured."""
        times = [row.times for row in self.collectives]
        return Agreement.of(times) if times else None


def compare(
    cluster: Cluster,
    fitted: Hardware,
    lookups: Sequence[LookupTiming],
    collectives: Sequence[CollectiveTiming],
) -> Comparison:
    """Compare the estimates for ``cluster``, as it is and with the fitted hardware, to timings."""
    after = replace(cluster, hardware=fitted)
    estimates = zip(
        lookups, estimate_lookups(lookups, cluster), estimate_lookups(lookups, after), strict=True
    )
    rows = []
    for timing, old, new in estimates:
        forward = _compared(old.forward_ms, new.forward_ms, timing.forward_ms)
        backward = _compared(old.backward_ms, new.backward_ms, timing.backward_ms)
        rows.append(LookupRow(timing, "forward", forward))
        rows.append(LookupRow(timing, "backward", backward))
    return Comparison(
        lookups=tuple(rows),
        collectives=tuple(
            CollectiveRow(
                timing,
                _compared(
                    estimate_collective(timing, cluster),
                    estimate_collective(timing, after),
                    timing.times_ms,
                ),
            )
            for timing in collectives
        ),
    )


def _compared(before_ms: float, after_ms: float, times_ms: Sequence[float]) -> Compared:
    return Compared(before_ms, after_ms, statistics.median(times_ms))

"""Two sets of runs of the kernels' benchmark: what became slower, beyond the noise. Needs no torch.

How the noise band is made. All is of logarithms of times, so that a band is a factor. A run gives
one value of what it measured: the mean of its two medians. Its variance is estimated

- where either side has several runs, from the differences of a side's runs to their mean: this
  sees what differs between processes (addresses, clocks, what else the machine did);
- else from how far each run's two medians are apart: this sees only what changes within a run.

Few values make a poor estimate, which Student's t pays for: with two degrees of freedom, the band
is 4.3 standard errors wide. A difference must exceed all of three bands to be called:

1. t of the measurement's own estimate at 5%: no other measurement lends it its quiet;
2. t of the estimate pooled over all measurements of the comparison, at 5% divided by their number
   (Bonferroni): of many measurements that are all as noisy, one is called by chance in 5% of the
   comparisons at most;
3. what the calls' own spread leaves of the medians' error, at the same level as 2: a standard
   deviation of (p80 - p20) / 1.68 and sqrt(pi / 2) of it over the root of the times. It holds for
   times that are independent, and is a lower bound where the two medians agree by chance.

Where a few measurements are far noisier than the rest, only 1 holds for them: each of those is
called by chance in up to 5% of the comparisons. Run-to-run noise is not seen with one run a side.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cache
from statistics import NormalDist, fmean
from typing import Literal

from dropdrift.benchmarks.kernels.origin import Origin
from dropdrift.benchmarks.kernels.record import KernelRun, Measurement, Timing
from dropdrift.training.experiments.statistics import LEVEL, t_quantile

Verdict = Literal["slower", "faster", "within noise"]

CHANCE = 1 - LEVEL
# Of a normal distribution, from its 20th to its 80th percentile, in standard deviations.
P20_TO_P80 = 2 * NormalDist().inv_cdf(0.8)


@dataclass(frozen=True)
class Case:
    """What is measured; see :class:`Measurement`.

    Attributes:
        graph: whether it is the replay of a CUDA graph.
    """

    op: str
    provider: str
    direction: str
    rows: int
    fields: int
    width: int
    hidden: int
    dtype: str
    device: str
    activation: str
    graph: bool

    @property
    def text(self) -> str:
        """All of it in a line."""
        sizes = "x".join(str(size) for size in (self.rows, self.fields, self.width, self.hidden))
        parts = (self.op, self.provider, self.direction, sizes, self.dtype, self.activation)
        graph = ("in a CUDA graph",) if self.graph else ()
        return ", ".join(part for part in (*parts, self.device, *graph) if part)


@dataclass(frozen=True)
class Change:
    """What two sets of runs say of one case.

    Attributes:
        case: what was measured.
        old_ms: geometric mean of the old runs' medians.
        new_ms: the same of the new ones.
        band: how far the ratio may be from 1, as a logarithm, in the noise.
    """

    case: Case
    old_ms: float
    new_ms: float
    band: float

    @property
    def ratio(self) -> float:
        """New over old."""
        return self.new_ms / self.old_ms

    @property
    def noise(self) -> float:
        """The band as a share: 0.05 where 5% more is still in the noise."""
        return math.expm1(self.band)

    @property
    def verdict(self) -> Verdict:
        """What the ratio means."""
        difference = math.log(self.ratio)
        if abs(difference) <= self.band:
            return "within noise"
        return "slower" if difference > 0 else "faster"


@dataclass(frozen=True)
class Untimed:
    """A case that one set of runs has no time of, and why."""

    case: Case
    reason: str


@dataclass(frozen=True)
class Comparison:
    """Two sets of runs compared.

    Attributes:
        changes: the cases that both have times of, in the order of the new runs.
        lost: the cases that only the old ones have a time of, though the new ones tried.
        gained: the cases that only the new ones have a time of, though the old ones tried.
        only_old: the cases that the new ones did not try.
        only_new: the cases that the old ones did not try.
        single: whether the noise between runs is unseen: no side has several.
    """

    changes: tuple[Change, ...]
    lost: tuple[Untimed, ...]
    gained: tuple[Untimed, ...]
    only_old: tuple[Case, ...]
    only_new: tuple[Case, ...]
    single: bool

    def with_verdict(self, verdict: Verdict) -> tuple[Change, ...]:
        """The changes of that verdict."""
        return tuple(change for change in self.changes if change.verdict == verdict)

    @property
    def worse(self) -> bool:
        """Whether anything is slower beyond the noise, or has no time any more."""
        return bool(self.with_verdict("slower") or self.lost)


@dataclass(frozen=True)
class Side:
    """The runs that are compared with others.

    Attributes:
        name: of the file or revision that they are of.
        runs: all of one revision, on one hardware.
    """

    name: str
    runs: tuple[KernelRun, ...]

    @staticmethod
    def of(name: str, runs: Sequence[KernelRun]) -> Side:
        """The side of ``runs``, of which there is at least one.

        Raises:
            ValueError: they are of several revisions or of several machines.
        """
        origins = [Origin.of(run) for run in runs]
        for what, found in (
            ("revisions", {origin.code for origin in origins}),
            ("machines", {origin.hardware for origin in origins}),
        ):
            if len(found) > 1:
                raise ValueError(
                    f"{name} has runs of several {what} ({'; '.join(sorted(found))}): compare "
                    "files of one each, 'dropdrift bench kernels --out' names another file"
                )
        return Side(name, tuple(runs))

    @property
    def origin(self) -> Origin:
        """Where its newest run is from."""
        return Origin.of(self.runs[-1])


def compare(old: Side, new: Side, *, any_hardware: bool = False) -> Comparison:
    """Compare what both sides have measured.

    Args:
        old: what is compared with.
        new: what may have become slower.
        any_hardware: compare different machines all the same; GPUs then count as one another.

    Raises:
        ValueError: the machines differ, or there is nothing that both have a time of.
    """
    machines = (old.origin.hardware, new.origin.hardware)
    if machines[0] != machines[1] and not any_hardware:
        raise ValueError(
            f"{old.name} was measured on {machines[0]}; {new.name} on {machines[1]}: such times "
            "tell nothing of the code (--any-hardware compares them all the same)"
        )
    before, after = (_cases(side, machines[0] != machines[1]) for side in (old, new))
    timed = {c: (before[c].timings, t.timings) for c, t in after.items() if c in before}
    pairs = {case: sides for case, sides in timed.items() if all(sides)}
    lost = tuple(Untimed(c, after[c].reason) for c, (a, b) in timed.items() if a and not b)
    if not pairs and not lost:
        raise ValueError(
            f"{old.name} and {new.name} have no time in common: the one begins with "
            f"{next(iter(before)).text}; the other with {next(iter(after)).text}"
        )
    return Comparison(
        changes=tuple(_changes(pairs)),
        lost=lost,
        gained=tuple(Untimed(c, before[c].reason) for c, (a, b) in timed.items() if b and not a),
        only_old=tuple(case for case in before if case not in after),
        only_new=tuple(case for case in after if case not in before),
        single=len(old.runs) == len(new.runs) == 1,
    )


@dataclass
class _Tried:
    """The times of a case, one a run that has one, and why others have none."""

    timings: list[Timing]
    reason: str


def _cases(side: Side, any_gpu: bool) -> dict[Case, _Tried]:
    cases: dict[Case, _Tried] = {}
    for run in side.runs:
        for measurement in run.measurements:
            for case, timing in _timings(measurement, any_gpu):
                tried = cases.setdefault(case, _Tried([], ""))
                if timing is None:
                    tried.reason = measurement.reason
                else:
                    _check(timing, case, side.name)
                    tried.timings.append(timing)
    return cases


def _timings(measurement: Measurement, any_gpu: bool) -> Iterator[tuple[Case, Timing | None]]:
    keys = [field.name for field in fields(Case) if field.name != "graph"]
    case = Case(**{key: getattr(measurement, key) for key in keys}, graph=False)
    if any_gpu and case.device != "cpu":
        case = replace(case, device="GPU")
    yield case, measurement.timing
    if measurement.graph_timing is not None:
        yield replace(case, graph=True), measurement.graph_timing


def _check(timing: Timing, case: Case, name: str) -> None:
    times = (timing.median_ms, timing.repeated_median_ms, timing.p20_ms, timing.p80_ms)
    if min(times) <= 0 or timing.samples < 1 or timing.p20_ms > timing.p80_ms:
        raise ValueError(f"{name}: the times of {case.text} cannot be: {timing}")


@dataclass(frozen=True)
class _Noise:
    """Sum of squared deviations of a run's value, and its degrees of freedom."""

    squares: float
    degrees: int
    between_runs: bool

    def band(self, chance: float) -> float:
        """Student's t at ``chance``, two-sided, times the standard deviation of one run's value."""
        return _t(1 - chance / 2, self.degrees) * math.sqrt(self.squares / self.degrees)


_t = cache(t_quantile)
Timings = Sequence[Timing]


def _changes(pairs: Mapping[Case, tuple[Timings, Timings]]) -> Iterator[Change]:
    noises = {case: _noise(*sides) for case, sides in pairs.items()}
    pooled = {
        kind: _Noise(
            sum(noise.squares for noise in noises.values() if noise.between_runs == kind),
            sum(noise.degrees for noise in noises.values() if noise.between_runs == kind),
            kind,
        )
        for kind in {noise.between_runs for noise in noises.values()}
    }
    chance = CHANCE / max(len(pairs), 1)
    for case, (old, new) in pairs.items():
        noise = noises[case]
        of_one = max(noise.band(CHANCE), pooled[noise.between_runs].band(chance))
        of_calls = math.hypot(_standard_error(old), _standard_error(new))
        band = max(
            of_one * math.sqrt(1 / len(old) + 1 / len(new)),
            of_calls * NormalDist().inv_cdf(1 - chance / 2),
        )
        old_ms, new_ms = (math.exp(fmean(map(_value, side))) for side in (old, new))
        yield Change(case, old_ms, new_ms, band)


def _value(timing: Timing) -> float:
    """What a run says: the mean logarithm of its two medians."""
    return fmean((math.log(timing.median_ms), math.log(timing.repeated_median_ms)))


def _noise(old: Timings, new: Timings) -> _Noise:
    sides = [[_value(timing) for timing in side] for side in (old, new)]
    degrees = len(old) + len(new) - 2
    if degrees:
        squares = sum((value - fmean(side)) ** 2 for side in sides for value in side)
        return _Noise(squares, degrees, between_runs=True)
    # Two medians that differ by d: the variance of their mean is d^2 / 4.
    apart = [math.log(t.median_ms / t.repeated_median_ms) for t in (*old, *new)]
    return _Noise(sum(d * d / 4 for d in apart), len(apart), between_runs=False)


def _standard_error(timings: Timings) -> float:
    """Of the mean value of the runs, by the spread of their calls alone."""
    squares = [
        math.pi / 2 * (math.log(t.p80_ms / t.p20_ms) / P20_TO_P80) ** 2 / (2 * t.samples)
        for t in timings
    ]
    return math.sqrt(sum(squares)) / len(timings)

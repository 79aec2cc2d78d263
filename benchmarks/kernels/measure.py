"""One case in one direction: every provider is checked, then those that are right are timed."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace

import torch

from dropdrift.benchmarks.kernels.calls import Prepare, preparation, results, saved_bytes
from dropdrift.benchmarks.kernels.cases.case import Case, Cost, Provider, Verdict
from dropdrift.benchmarks.kernels.config import ProviderName
from dropdrift.benchmarks.kernels.cuda_graphs import capture
from dropdrift.benchmarks.kernels.cuda_memory import peak_bytes
from dropdrift.benchmarks.kernels.providers import family, left_out
from dropdrift.benchmarks.kernels.record import Ceilings, Direction, Measurement, RecordedDtype
from dropdrift.benchmarks.kernels.timing import Contender, time_in_turn


@dataclass(frozen=True)
class Setting:
    """Where and how long is measured.

    Attributes:
        device: where.
        name: the device's.
        ceilings: of the device.
        seconds: how long each provider is timed, twice.
        advance: is called after each check and each round of timings.
    """

    device: torch.device
    name: str
    ceilings: Ceilings
    seconds: float
    advance: Callable[[], None]


@dataclass(frozen=True)
class _Entry:
    """A provider in one direction; without a verdict it is left out.

    Attributes:
        name: which.
        reason: why something of it is not timed.
        verdict: of its results.
        memory_bytes: see ``Measurement``.
        calls: what is timed of it.
        replays: the same as a CUDA graph that goes through all sets of inputs once.
    """

    name: ProviderName
    reason: str
    verdict: Verdict | None = None
    memory_bytes: int | None = None
    calls: Contender | None = None
    replays: Contender | None = None


def measure(
    case: Case, direction: Direction, names: Sequence[ProviderName], setting: Setting
) -> list[Measurement]:
    """One measurement for each provider of ``names``, with times where its results are right."""
    entries = []
    for name in names:
        entries.append(_check(case, direction, name, setting.device))
        setting.advance()
    contenders = [c for entry in entries for c in (entry.calls, entry.replays) if c is not None]
    time_in_turn(contenders, setting.seconds, setting.device, setting.advance)
    measurements = [_measurement(case, direction, entry, setting) for entry in entries]
    return [_with_ratio(measurement, measurements) for measurement in measurements]


def floor_ms(cost: Cost, ceilings: Ceilings, dtype: RecordedDtype) -> float:
    """The longer of what the bytes take at the measured bandwidth, and the products at theirs."""
    moving = 1e-6 * cost.bytes_moved / ceilings.copy_gb_per_s
    multiplying = 1e-9 * cost.flops / ceilings.tflops(dtype) if cost.flops else 0.0
    return max(moving, multiplying)


def _check(case: Case, direction: Direction, name: ProviderName, device: torch.device) -> _Entry:
    """Whether what a provider computes on the first inputs is right."""
    reason = left_out(name, device)
    if reason:
        return _Entry(name, reason)
    provider = case.provider(name)
    try:
        verdict = case.verdict(name, *results(case, provider, direction))
        if verdict.reason:
            return _Entry(name, verdict.reason, verdict)
        prepare = preparation(case, provider, direction)
        memory = _memory(case, provider, direction, prepare, device)
    except RuntimeError as error:
        return _Entry(name, _excuse(name, error))
    entry = _Entry(name, "", verdict, memory, Contender(prepare))
    if device.type == "cuda" and direction != "backward":
        return _with_replays(entry, prepare, case.sets)
    return entry


def _with_replays(entry: _Entry, prepare: Prepare, sets: int) -> _Entry:
    try:
        replay = capture(prepare, sets)
    except RuntimeError as error:
        return replace(entry, reason=f"not captured as a CUDA graph: {_first_line(error)}")
    return replace(entry, replays=Contender(lambda _: replay, sets))


def _excuse(name: ProviderName, error: RuntimeError) -> str:
    """Why an error leaves a provider out; one that is no excuse is raised again."""
    if isinstance(error, torch.OutOfMemoryError):
        return "left out: out of memory"
    if name.startswith("compile"):
        return f"left out: torch.compile failed: {_first_line(error)}"
    raise error


def _first_line(error: RuntimeError) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _memory(
    case: Case, provider: Provider, direction: Direction, prepare: Prepare, device: torch.device
) -> int | None:
    if device.type == "cuda":
        return peak_bytes(prepare)
    return None if direction == "forward" else saved_bytes(case, provider)


def _measurement(case: Case, direction: Direction, entry: _Entry, setting: Setting) -> Measurement:
    cost, verdict = case.cost(direction), entry.verdict
    error = verdict.error if verdict and math.isfinite(verdict.error) else None
    return Measurement(
        provider=entry.name,
        direction=direction,
        device=setting.name,
        timing=entry.calls.timing() if entry.calls else None,
        graph_timing=entry.replays.timing() if entry.replays else None,
        bytes_moved=cost.bytes_moved,
        flops=cost.flops,
        floor_ms=floor_ms(cost, setting.ceilings, case.shape.dtype),
        memory_bytes=entry.memory_bytes,
        error=error,
        tolerance=verdict.tolerance if verdict else 0.0,
        passed=not verdict.reason if verdict else None,
        reason=entry.reason,
        ratio_to_best_other=None,
        **asdict(case.shape),
    )


def _with_ratio(measurement: Measurement, all_of_them: Sequence[Measurement]) -> Measurement:
    own = measurement.timing
    others = [
        other.timing.median_ms
        for other in all_of_them
        if other.timing and family(other.provider) != family(measurement.provider)
    ]
    if own is None or not others:
        return measurement
    return replace(measurement, ratio_to_best_other=min(others) / own.median_ms)

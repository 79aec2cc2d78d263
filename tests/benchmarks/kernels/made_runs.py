"""Runs of the kernels' benchmark whose true times and noise are known."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Mapping, Sequence
from typing import Any

from dropdrift.benchmarks.kernels.record import (
    Ceilings,
    Clocks,
    KernelRun,
    MatmulRate,
    Measurement,
    Timing,
)

HARDWARE = {"cpu": "a processor", "cores": 2, "memory": 2**33, "gpus": []}
PROVENANCE = {
    "command": "dropdrift bench kernels",
    "config": {},
    "seed": 0,
    "versions": {"python": "3.12.3", "torch": "2.13.0"},
    "hardware": HARDWARE,
    "git": {"revision": "0123456789abcdef", "dirty": False},
    "date": "2026-11-22T12:00:00+00:00",
    "world_size": 1,
}


def made_timing(median_ms: float, repeated_ms: float | None = None, **changes: Any) -> Timing:
    """Many calls that hardly differ, unless told otherwise."""
    timing = Timing(
        median_ms=median_ms,
        p20_ms=0.999 * median_ms,
        p80_ms=1.001 * median_ms,
        repeated_median_ms=median_ms if repeated_ms is None else repeated_ms,
        calls=10_000,
        samples=10_000,
    )
    return dataclasses.replace(timing, **changes)


def made_measurement(timing: Timing | None, **changes: Any) -> Measurement:
    """Of the denoiser by eager, unless told otherwise."""
    measurement = Measurement(
        op="denoiser",
        provider="eager",
        direction="forward",
        rows=4096,
        fields=200,
        width=128,
        hidden=256,
        dtype="float32",
        device="cpu",
        activation="relu",
        timing=timing,
        graph_timing=None,
        bytes_moved=10**7,
        flops=10**9,
        floor_ms=0.5,
        memory_bytes=2**20,
        error=1e-6,
        tolerance=1e-4,
        passed=timing is not None,
        reason="" if timing else "it is wrong",
        ratio_to_best_other=1.5,
    )
    return dataclasses.replace(measurement, **changes)


def made_run(
    measurements: Sequence[Measurement],
    *,
    run: str = "run",
    threads: int = 2,
    **provenance: Any,
) -> KernelRun:
    """A run of ``measurements``; further arguments replace parts of its provenance."""
    return KernelRun(
        run=run,
        measurements=tuple(measurements),
        ceilings=Ceilings(20.0, (MatmulRate("float32", 0.1), MatmulRate("bfloat16", 0.2))),
        clocks=Clocks("a processor", threads, (0.25, 1.0), 2500.0, None),
        provenance=PROVENANCE | provenance,
    )


def noisy_run(
    true_ms: Mapping[int, float],
    generator: random.Random,
    *,
    noise: float | Mapping[int, float],
    between: float = 0.0,
    **changes: Any,
) -> KernelRun:
    """A run of one provider at several sizes.

    Args:
        true_ms: by rows.
        generator: of the noise.
        noise: standard deviation of the logarithm of each median, for all or by rows.
        between: of what the two medians of a run share.
        changes: see :func:`made_run`.
    """
    measurements = []
    for rows, truth in true_ms.items():
        own = noise if isinstance(noise, float) else noise[rows]
        shared = generator.gauss(0, between)
        halves = [truth * (1 + shared + generator.gauss(0, own)) for _ in range(2)]
        measurements.append(made_measurement(made_timing(*halves), rows=rows))
    return made_run(measurements, **changes)

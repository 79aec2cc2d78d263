"""What the benchmark of the kernels measures, and how it is kept: JSON lines. Needs no torch."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from dropdrift.data.text_file import read_text
from dropdrift.data.typed_mapping import build, shown

Op = Literal["mask-words", "mask-features", "denoiser", "drop-and-denoise"]
Direction = Literal["forward", "backward", "both"]
Dtype = Literal["float32", "bfloat16", "float16"]
RecordedDtype = Literal[Dtype, "int32"]

KIND = "kernel"


@dataclass(frozen=True)
class Timing:
    """The calls of one provider, measured twice in a run, in turn with the other providers.

    Attributes:
        median_ms: median of the first measurement, milliseconds a call.
        p20_ms: its 20th percentile.
        p80_ms: its 80th percentile.
        repeated_median_ms: median of the second measurement: how far apart the two are is noise.
        calls: calls of the first measurement.
        samples: times that median and percentiles are of: on a GPU one a call, on a CPU the mean
            of a block of calls.
    """

    median_ms: float
    p20_ms: float
    p80_ms: float
    repeated_median_ms: float
    calls: int
    samples: int


@dataclass(frozen=True)
class Measurement:
    """One provider of one operator, in one direction, at one size.

    Attributes:
        op: which operator.
        provider: who computes it.
        direction: ``both`` is a forward and its backward in one call.
        rows: B.
        fields: N.
        width: Z of the denoiser, the width of each field for ``mask-features``, else 0.
        hidden: H of the denoiser, else 0.
        dtype: type of the tensors; ``int32`` for ``mask-words``.
        device: ``cpu`` or the GPU's name.
        activation: of the denoiser, else empty.
        timing: calls one after the other; None: the gate failed, or the provider is left out.
        graph_timing: replays of a CUDA graph; None: on a CPU, of a backward alone, and where the
            calls cannot be captured.
        bytes_moved: what must be read and written at least.
        flops: floating-point operations of the matrix products that are needed.
        floor_ms: modelled: the longer of bytes at the measured copy bandwidth and operations at the
            measured rate of matrix products.
        memory_bytes: on a GPU, the peak of what a call allocates; on a CPU, what a forward saves
            for its backward beyond its inputs; None: not measured.
        error: against float64; what it is of is the gate's, None: not finite, or not measured.
        tolerance: what the error must not exceed.
        passed: whether the gate was passed; None: the provider is left out, and was not asked.
        reason: why there is no timing, or no graph of what is timed; else empty.
        ratio_to_best_other: time of the quickest provider of another family (all of dropdrift's
            modes are one) over this one's; None: there is none.
    """

    op: Op
    provider: str
    direction: Direction
    rows: int
    fields: int
    width: int
    hidden: int
    dtype: RecordedDtype
    device: str
    activation: str
    timing: Timing | None
    graph_timing: Timing | None
    bytes_moved: int
    flops: int
    floor_ms: float
    memory_bytes: int | None
    error: float | None
    tolerance: float
    passed: bool | None
    reason: str
    ratio_to_best_other: float | None


@dataclass(frozen=True)
class MatmulRate:
    """What large matrix products in one type reach, in TFLOP/s."""

    dtype: Dtype
    tflops: float


@dataclass(frozen=True)
class Ceilings:
    """What the device reaches at best, measured before anything else.

    Attributes:
        copy_gb_per_s: bytes read and written a second by a copy of large tensors, in 1e9.
        matmul: one rate a type.
    """

    copy_gb_per_s: float
    matmul: tuple[MatmulRate, ...]

    def tflops(self, dtype: RecordedDtype) -> float:
        """The rate of matrix products in ``dtype``."""
        return next(rate.tflops for rate in self.matmul if rate.dtype == dtype)


@dataclass(frozen=True)
class GpuClocks:
    """What nvidia-smi tells of the GPU; None where it does not tell.

    Attributes:
        sm_mhz: clock of the multiprocessors.
        memory_mhz: clock of the memory.
        power_w: power drawn.
        temperature_c: of the GPU.
    """

    sm_mhz: float | None
    memory_mhz: float | None
    power_w: float | None
    temperature_c: float | None


@dataclass(frozen=True)
class Clocks:
    """How fast, and how busy, the machine was just after the measurements.

    Attributes:
        cpu: model of the processor.
        threads: that torch may use on the CPU.
        load: load average over the last minute, when the run began and after the measurements.
        mhz: mean of the cores' clocks now; None where the system does not tell.
        gpu: None on a CPU.
    """

    cpu: str
    threads: int
    load: tuple[float, ...]
    mhz: float | None
    gpu: GpuClocks | None


@dataclass(frozen=True)
class KernelRun:
    """What one call of the benchmark measured.

    Attributes:
        run: unique name of the call.
        measurements: in the order in which they were taken.
        ceilings: of the device.
        clocks: after the last measurement.
        provenance: see ``training.provenance``.
    """

    run: str
    measurements: tuple[Measurement, ...]
    ceilings: Ceilings
    clocks: Clocks
    provenance: dict[str, Any]


@dataclass(frozen=True)
class _Line:
    """A line of the file: one measurement with all that belongs to its run."""

    kind: str
    run: str
    measurement: Measurement
    ceilings: Ceilings
    clocks: Clocks
    provenance: Any


def append_records(path: Path, run: KernelRun) -> None:
    """Append one line a measurement to ``path``; it and its folder are made if need be."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [
        asdict(_Line(KIND, run.run, measurement, run.ceilings, run.clocks, run.provenance))
        for measurement in run.measurements
    ]
    text = "".join(json.dumps(line, ensure_ascii=False, allow_nan=False) + "\n" for line in lines)
    with path.open("a", encoding="utf-8") as file:
        file.write(text)


def read_records(path: Path) -> list[KernelRun]:
    """The runs of a file, in their order; a run may have been appended in several parts.

    Raises:
        ValueError: the file cannot be read or has no lines, or a line is no measurement; the
            message names file, line and what is wrong.
    """
    runs: dict[str, KernelRun] = {}
    for number, text in enumerate(read_text(path).splitlines(), start=1):
        if text.strip():
            line = _read_line(text, f"{path}, line {number}")
            earlier = runs[line.run].measurements if line.run in runs else ()
            runs[line.run] = KernelRun(
                line.run,
                (*earlier, line.measurement),
                line.ceilings,
                line.clocks,
                line.provenance,
            )
    if not runs:
        raise ValueError(f"{path} has no measurements")
    return list(runs.values())


def _read_line(text: str, where: str) -> _Line:
    try:
        raw = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{where} is not valid JSON: {error}") from error
    if not isinstance(raw, dict) or raw.get("kind") != KIND:
        found = raw.get("kind") if isinstance(raw, dict) else raw
        raise ValueError(f"{where} is no measurement of kernels: its kind is {shown(found)}")
    line = build(_Line, raw, where)
    if not isinstance(line.provenance, dict):
        raise ValueError(f"{where}: provenance is {shown(line.provenance)}, must be a mapping")
    return line

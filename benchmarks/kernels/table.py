"""Measurements as text for a terminal, at most 100 columns wide."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from dropdrift.benchmarks.kernels.providers import family
from dropdrift.benchmarks.kernels.record import Ceilings, KernelRun, Measurement, Timing
from dropdrift.benchmarks.kernels.wording import significant

LINE_WIDTH = 100
NAME_WIDTH = 21
WIDTHS = (8, 8, 8, 7, 8, 6, 7, 8, 4, 7, 7)
DIRECTIONS = {"forward": "forward", "backward": "backward", "both": "forward and backward"}


def introduction(device: str, threads: int, ceilings: Ceilings) -> list[str]:
    """What the tables are measured on, and what their columns mean."""
    on_cpu = device == "cpu"
    where = f"{threads} CPU thread{'s' * (threads > 1)}" if on_cpu else device
    rates = ", ".join(f"{rate.dtype} {significant(rate.tflops, 3)}" for rate in ceilings.matmul)
    memory = (
        "saved: MB that a forward keeps for its backward beyond its inputs"
        if on_cpu
        else "peak: the most MB that a call allocates at once"
    )
    copies = significant(ceilings.copy_gb_per_s, 3)
    text = (
        f"{where}: a copy moves {copies} GB/s, matrix products reach {rates} TFLOP/s. Times are "
        "milliseconds a call; the denoiser's include drawing its mask, whoever computes it. "
        "GB/s and TFLOP/s: of what must be moved and multiplied at least. "
        "floor: the share of the time that this takes at the rates above, modelled from them. "
        f"{memory}. error: relative, against float64 with the mask that was drawn; of mask words, "
        "that of the mean share dropped. /eager and /best: the time of eager, and of the quickest "
        "other provider, over this one's; above 1, this one is quicker."
    )
    return textwrap.wrap(text, LINE_WIDTH)


def table(measurements: Sequence[Measurement]) -> list[str]:
    """A table of the providers of one case in one direction."""
    first = measurements[0]
    memory = "saved" if first.device == "cpu" else "peak"
    titles = (
        *("median", "p20", "p80", "GB/s", "TFLOP/s", "floor", memory, "error", "ok"),
        *("/eager", "/best"),
    )
    moved, multiplied = 1e-6 * first.bytes_moved, 1e-9 * first.flops
    lines = [
        _title(first),
        f"at least {significant(moved, 3)} MB and {significant(multiplied, 3)} GFLOP: floor "
        f"{first.floor_ms:.3g} ms (modelled)",
        " " * NAME_WIDTH + _cells(titles),
    ]
    for measurement in measurements:
        lines.append(_line(measurement, measurements))
        if measurement.graph_timing:
            lines.append(_graph_line(measurement, measurements))
        elif measurement.timing and measurement.reason:
            lines.append(f"  {measurement.reason}")
    return lines


def wrong(run: KernelRun) -> list[str]:
    """Names of the providers whose results are wrong."""
    return [measurement.provider for measurement in run.measurements if measurement.passed is False]


def _title(measurement: Measurement) -> str:
    sizes = [f"{measurement.rows:,} rows", f"{measurement.fields:,} fields"]
    if measurement.op == "mask-features":
        sizes.append(f"each {measurement.width} wide")
    elif measurement.width:
        sizes += [f"width {measurement.width:,}", f"hidden {measurement.hidden:,}"]
    kinds = [text for text in (measurement.dtype, measurement.activation) if text]
    where = f"{measurement.op}, {DIRECTIONS[measurement.direction]}"
    return f"{where}: {', '.join(sizes + kinds)}"


def _line(measurement: Measurement, all_of_them: Sequence[Measurement]) -> str:
    name = f"{measurement.provider:<{NAME_WIDTH}}"
    timing = measurement.timing
    if timing is None:
        verdict = "" if measurement.passed is None else "WRONG, so no speed: "
        return f"{name}  {verdict}{measurement.reason}"
    assert measurement.error is not None
    memory = measurement.memory_bytes
    times = {m.provider: m.timing.median_ms for m in all_of_them if m.timing}
    cells = (
        *_speeds(measurement, timing),
        "-" if memory is None else significant(1e-6 * memory, 3),
        f"{measurement.error:.1e}",
        "yes",
        *_ratios(measurement.provider, times),
    )
    return name + _cells(cells)


def _graph_line(measurement: Measurement, all_of_them: Sequence[Measurement]) -> str:
    assert measurement.graph_timing is not None
    times = {m.provider: m.graph_timing.median_ms for m in all_of_them if m.graph_timing}
    cells = (
        *_speeds(measurement, measurement.graph_timing),
        *("", "", ""),
        *_ratios(measurement.provider, times),
    )
    return f"{'  in a CUDA graph':<{NAME_WIDTH}}" + _cells(cells)


def _speeds(measurement: Measurement, timing: Timing) -> tuple[str, ...]:
    milliseconds = timing.median_ms
    return (
        significant(milliseconds, 4),
        significant(timing.p20_ms, 4),
        significant(timing.p80_ms, 4),
        significant(1e-6 * measurement.bytes_moved / milliseconds, 3),
        significant(1e-9 * measurement.flops / milliseconds, 3) if measurement.flops else "-",
        f"{measurement.floor_ms / milliseconds:.0%}",
    )


def _ratios(provider: str, times: dict[str, float]) -> tuple[str, str]:
    others = [time for name, time in times.items() if family(name) != family(provider)]
    eager = times.get("eager")
    return (
        f"{eager / times[provider]:.2f}x" if eager else "-",
        f"{min(others) / times[provider]:.2f}x" if others else "-",
    )


def _cells(texts: Sequence[str]) -> str:
    return "".join(f"{text:>{width}}" for text, width in zip(texts, WIDTHS, strict=True))

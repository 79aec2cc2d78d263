"""Measurements of the kernels as one HTML page with pictures, which needs no network."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape

from dropdrift.benchmarks.kernels.origin import Origin
from dropdrift.benchmarks.kernels.plots import BASE, speed_figure
from dropdrift.benchmarks.kernels.record import Ceilings, KernelRun, Measurement
from dropdrift.benchmarks.kernels.wording import significant
from dropdrift.training.comparison import Grid
from dropdrift.training.figures import to_svg
from dropdrift.training.page import provenance_details, to_figure, to_html, to_page

TITLE = "The kernels, measured"
# Pixels that a figure keeps in a narrow window, where it scrolls: its text is to be read.
LEAST_WIDTH = 900
# Whose versions decide the speed.
PACKAGES = ("torch", "triton")
NOTES = (
    "Times are medians of the calls of one run, bars go from their 20th to their 80th percentile. "
    "The providers of an operator were measured in turn, each twice.",
    "The modelled floor is the longer of two times: what must be read and written at least at the "
    "copy bandwidth, and the matrix products that are needed at the rate that large ones reach. "
    "Both rates were measured in the same run; the floor itself was not: it is drawn dashed. "
    "On a CPU, what stays in the caches may be quicker.",
    "The denoiser's time includes making its mask, for every provider.",
    "Where a result differs from float64 by more than its tolerance, no time is shown.",
    "Ratios are to eager without a graph.",
    "To best other: the time of the quickest provider of another family over this one's, above 1 "
    "where this one is quicker. Memory: on a GPU the peak of what a call allocates, on a CPU what "
    "a forward saves for its backward beyond its inputs.",
    "Of a size that was measured several times, the newest measurement is shown.",
    "An MB has 1e6 bytes, a GB 1e9; 64Ki rows are 65,536.",
)


@dataclass(frozen=True)
class Section:
    """Measurements that differ in provider and size alone, all of one machine.

    Attributes:
        title: operator, direction, type, activation and device.
        hardware: that they were measured on.
        measurements: in the order in which they were measured.
    """

    title: str
    hardware: str
    measurements: tuple[Measurement, ...]


def kernel_page(runs: Sequence[KernelRun]) -> str:
    """The page of all that ``runs`` have measured, of which the later ones are the newer.

    Raises:
        ValueError: the provenance of a run lacks something.
    """
    sections = _sections(runs)
    several = len({section.hardware for section in sections}) > 1
    body = [f"<h1>{TITLE}</h1>", f"<ul>{''.join(_item(_origin(run)) for run in runs)}</ul>"]
    for section in sections:
        body += _section(section, several)
    body += ["<h2>How to read this</h2>", f"<ul>{''.join(map(_item, NOTES))}</ul>"]
    body += ["<h2>Provenance</h2>"]
    body += [provenance_details(f"Run of {Origin.of(r).date}", r.provenance) for r in runs]
    return to_page(TITLE, body)


def _sections(runs: Sequence[KernelRun]) -> list[Section]:
    """What is shown: the newest measurement of each provider at each size on each machine."""
    newest: dict[tuple[str, str], dict[tuple[object, ...], Measurement]] = {}
    for run in runs:
        hardware = Origin.of(run).hardware
        for m in run.measurements:
            device = m.device if m.device != "cpu" else "CPU"
            title = ", ".join(filter(None, (m.op, m.direction, m.dtype, m.activation, device)))
            section = newest.setdefault((hardware, title), {})
            section[m.provider, m.rows, m.fields, m.width, m.hidden] = m
    return [
        Section(title, hardware, tuple(measurements.values()))
        for (hardware, title), measurements in newest.items()
    ]


def _section(section: Section, several: bool) -> Iterator[str]:
    on = f", on {section.hardware}" if several else ""
    yield f"<h2>{escape(section.title + on)}</h2>"
    shapes: dict[str, list[Measurement]] = {}
    for m in section.measurements:
        shapes.setdefault(_shape(m), []).append(m)
    for shape, measurements in shapes.items():
        if any(m.timing for m in measurements):
            svg = to_svg(speed_figure(measurements))
            svg = svg.replace("<svg ", f'<svg style="min-width: {LEAST_WIDTH}px" ', 1)
            yield f'<div class="scroll">{to_figure(svg, _caption(shape, measurements))}</div>'
        yield f'<div style="font-size: .85rem">{to_html(_measurement_grid(shape, measurements))}'
        yield "</div>"
    untimed = dict.fromkeys(
        f"{m.provider}, {m.rows:,} rows, {_shape(m)}: {m.reason}"
        for m in section.measurements
        if m.timing is None
    )
    if untimed:
        yield f"<p>Without a time:</p><ul>{''.join(map(_item, untimed))}</ul>"


def _shape(m: Measurement) -> str:
    """All sizes but the rows, in words."""
    parts = [f"{m.fields} fields"]
    if m.width:
        parts.append(f"{m.width} wide" + ("" if m.hidden else " each"))
    if m.hidden:
        parts.append(f"{m.hidden} hidden units")
    return ", ".join(parts)


def _caption(shape: str, measurements: Sequence[Measurement]) -> str:
    graph = any(m.graph_timing for m in measurements)
    replays = " Hollow markers: replays of a CUDA graph." if graph else ""
    return (
        f"{shape}: time of a call, times as quick as {BASE}, and share of the speed that the "
        f"modelled floor has.{replays}"
    )


def _measurement_grid(shape: str, measurements: Sequence[Measurement]) -> Grid:
    graph = any(m.graph_timing for m in measurements)
    times = ("ms", "p20 to p80", *(["graph ms"] * graph))
    rates = ("GB/s", "TFLOP/s", "of floor", "Memory", "Error", "Check", "To best other")
    rows = tuple(tuple(_cells(m, graph)) for m in sorted(measurements, key=lambda m: m.rows))
    return Grid(shape, ("Provider", "Rows", *times, *rates), rows)


def _cells(m: Measurement, graph: bool) -> Iterator[str]:
    yield m.provider
    yield f"{m.rows:,}"
    timing, replays = m.timing, m.graph_timing
    if timing is None:
        yield from ["-"] * (5 + graph)
    else:
        seconds = timing.median_ms / 1e3
        yield significant(timing.median_ms, 4)
        yield f"{significant(timing.p20_ms, 4)} to {significant(timing.p80_ms, 4)}"
        if graph:
            yield significant(replays.median_ms, 4) if replays else "-"
        yield significant(m.bytes_moved / seconds / 1e9, 3)
        yield significant(m.flops / seconds / 1e12, 3) if m.flops else "-"
        yield f"{m.floor_ms / timing.median_ms:.0%}"
    yield "-" if m.memory_bytes is None else f"{significant(m.memory_bytes / 1e6, 3)} MB"
    yield "-" if m.error is None else f"{m.error:.1e}"
    yield "-" if m.passed is None else "passed" if m.passed else "failed"
    yield "-" if m.ratio_to_best_other is None else f"{m.ratio_to_best_other:.2f}"


def _origin(run: KernelRun) -> str:
    """What a run was measured on and by, in a sentence."""
    origin = Origin.of(run)
    copies = significant(run.ceilings.copy_gb_per_s, 3)
    versions = (f"{name} {origin.versions[name]}" for name in PACKAGES if name in origin.versions)
    return (
        f"{origin.date.removesuffix('+00:00').replace('T', ' ')} UTC: {origin.hardware}; revision "
        f"{origin.code}; {', '.join(versions)}; copies at {copies} GB/s, "
        f"matrix products at {_rates(run.ceilings)}; load average "
        f"{' to '.join(f'{load:.1f}' for load in run.clocks.load)}"
    )


def _rates(ceilings: Ceilings) -> str:
    return ", ".join(
        f"{rate.dtype} {significant(rate.tflops, 3)} TFLOP/s" for rate in ceilings.matmul
    )


def _item(text: str) -> str:
    return f"<li>{escape(text)}</li>"

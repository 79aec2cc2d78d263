"""The figures of the kernels' benchmark: time, ratio and share of the floor's speed.

Against rows; of a single number of rows, a row of the figure for each provider.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from dropdrift.benchmarks.kernels.config import PROVIDERS
from dropdrift.benchmarks.kernels.record import Measurement, Timing
from dropdrift.training.figures import GREY, LINES, STYLE, add_legend, colour, marker

# What the ratios are to.
BASE = "eager"
SIZE = (11.2, 3.7)  # inches
# More rows than these do not all get a tick.
TICKS = 6
TIME, RATIO = "ms a call", f"Times as quick as {BASE}"
SHARE = "Share of the floor's speed, %"
Series = Sequence[tuple[int, float]]


def speed_figure(measurements: Sequence[Measurement]) -> Figure:
    """Three panels: time with p20 to p80, times as quick as eager, share of the floor's speed.

    A provider and its variant have one colour; the variant is dashed. Replays of CUDA graphs are
    dotted, with hollow markers.

    Args:
        measurements: of one operator, direction, type and device, and of sizes that differ in their
            rows alone; at least one has a time.
    """
    rows = sorted({m.rows for m in measurements if m.timing})
    with mpl.rc_context(STYLE):
        if len(rows) == 1:
            return _one_size_figure([m for m in measurements if m.timing])
        figure = Figure(figsize=SIZE, layout="constrained")
        time, ratio, share = figure.subplots(1, 3)
        _draw_times(time, measurements)
        _draw_ratios(ratio, measurements)
        _draw_shares(share, measurements)
        for axes in (time, ratio, share):
            _name_rows(axes, rows)
        add_legend(figure, time)
    return figure


def _one_size_figure(measurements: Sequence[Measurement]) -> Figure:
    """The same panels for one number of rows: providers one below the other, the floor a line."""
    styles = _styles(measurements)
    places = {name: place for place, name in enumerate(styles)}
    base = {m.provider: m.timing.median_ms for m in measurements if m.timing}.get(BASE)
    figure = Figure(figsize=(SIZE[0], 1.0 + 0.32 * len(places)), layout="constrained")
    time, ratio, share = figure.subplots(1, 3, sharey=True)
    for m in measurements:
        style = styles[m.provider] | {"linestyle": "none"}
        for timing, graph in ((m.timing, False), (m.graph_timing, True)):
            if timing is not None:
                own, place = _as_graph(style, graph) | {"linestyle": "none"}, places[m.provider]
                across = [[each] for each in _around(timing)]
                time.errorbar(timing.median_ms, place, xerr=across, capsize=2.5, **own)
                share.plot(100 * m.floor_ms / timing.median_ms, place, **own)
                if base is not None:
                    ratio.plot(base / timing.median_ms, place, **own)
    time.axvline(measurements[0].floor_ms, color=GREY, linewidth=1, linestyle=(0, (4, 3)))
    ratio.axvline(1, color=GREY, linewidth=1)
    share.axvline(100, color=GREY, linewidth=1, linestyle=(0, (4, 3)))
    time.set_yticks(range(len(places)), list(places))
    time.set_ylim(len(places) - 0.5, -0.5)
    for axes, name in ((time, TIME), (ratio, RATIO), (share, SHARE)):
        axes.set_xlim(left=0)
        axes.set_xlabel(name)
    return figure


def _around(timing: Timing) -> tuple[float, float]:
    """From p20 to the median, and from there to p80."""
    return timing.median_ms - timing.p20_ms, timing.p80_ms - timing.median_ms


def _draw_times(axes: Any, measurements: Sequence[Measurement]) -> None:
    for provider, style in _styles(measurements).items():
        for graph in (False, True):
            found = _timings(measurements, provider, graph)
            if found:
                rows, timings = zip(*found, strict=True)
                middles = [timing.median_ms for timing in timings]
                below, above = zip(*map(_around, timings), strict=True)
                axes.errorbar(
                    rows,
                    middles,
                    yerr=(below, above),
                    capsize=2.5,
                    elinewidth=1,
                    label=None if graph else provider,
                    **_as_graph(style, graph),
                )
    floor = sorted({(m.rows, m.floor_ms) for m in measurements})
    axes.plot(*zip(*floor, strict=True), color=GREY, linewidth=1, linestyle=(0, (4, 3)), zorder=1)
    axes.plot([], [], color=GREY, linewidth=1, linestyle=(0, (4, 3)), label="modelled floor")
    axes.set(yscale="log", ylabel=TIME)
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.6g}"))
    axes.yaxis.set_minor_locator(NullLocator())


def _draw_ratios(axes: Any, measurements: Sequence[Measurement]) -> None:
    bases = {rows: t.median_ms for rows, t in _timings(measurements, BASE, graph=False)}
    for provider, style in _styles(measurements).items():
        for graph in (False, True):
            found = _timings(measurements, provider, graph)
            values = [(r, bases[r] / t.median_ms) for r, t in found if r in bases]
            _draw(axes, values, _as_graph(style, graph))
    axes.axhline(1, color=GREY, linewidth=1, zorder=1)
    axes.set_ylim(bottom=0)
    axes.set_ylabel(RATIO)
    if not bases:
        axes.text(0.5, 0.5, f"{BASE} has no time", transform=axes.transAxes, ha="center")


def _draw_shares(axes: Any, measurements: Sequence[Measurement]) -> None:
    floors = {m.rows: m.floor_ms for m in measurements}
    for provider, style in _styles(measurements).items():
        for graph in (False, True):
            found = _timings(measurements, provider, graph)
            values = [(rows, 100 * floors[rows] / t.median_ms) for rows, t in found]
            _draw(axes, values, _as_graph(style, graph))
    axes.axhline(100, color=GREY, linewidth=1, linestyle=(0, (4, 3)), zorder=1)
    axes.set_ylim(bottom=0)
    axes.set_ylabel(SHARE)


def _draw(axes: Any, values: Series, style: Mapping[str, Any]) -> None:
    if values:
        axes.plot(*zip(*values, strict=True), **style)


def _timings(
    measurements: Sequence[Measurement], provider: str, graph: bool
) -> list[tuple[int, Timing]]:
    """Rows and times of a provider, by rows."""
    found = [
        (m.rows, m.graph_timing if graph else m.timing)
        for m in measurements
        if m.provider == provider
    ]
    timed = [(rows, timing) for rows, timing in found if timing is not None]
    return sorted(timed, key=lambda item: item[0])


def _styles(measurements: Sequence[Measurement]) -> dict[str, dict[str, Any]]:
    """How the providers that have a time are drawn: the same on all figures."""
    timed = {m.provider for m in measurements if m.timing}
    names = [*PROVIDERS, *sorted(timed.difference(PROVIDERS))]
    return {
        name: {
            "color": colour(index // 2),
            "marker": marker(index),
            "linestyle": LINES[index % 2],
        }
        for index, name in enumerate(names)
        if name in timed
    }


def _as_graph(style: Mapping[str, Any], graph: bool) -> dict[str, Any]:
    return {**style, "linestyle": ":", "fillstyle": "none"} if graph else dict(style)


def _name_rows(axes: Any, rows: Sequence[int]) -> None:
    axes.set(xscale="log", xlabel="Rows")
    step = -(-len(rows) // TICKS)
    axes.set_xticks(rows[::step], [_short(count) for count in rows[::step]])
    axes.xaxis.set_minor_locator(NullLocator())


def _short(rows: int) -> str:
    """``64Ki`` for 65,536."""
    return f"{rows >> 10}Ki" if rows >= 1024 and rows % 1024 == 0 else f"{rows:,}"

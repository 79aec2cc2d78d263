"""The picture of a calibration, estimates against measurements, and the page that holds it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, NullFormatter

from dropdrift.sharding.calibration.comparison import Compared, Comparison
from dropdrift.training.figures import GREY, STYLE, colour, marker, to_svg
from dropdrift.training.page import provenance_details, to_figure, to_html, to_page
from dropdrift.training.plans.calibration.report import CalibrationReport, grids, headline

# Inches: one that a narrow window shows at nearly its full size.
SIDE = 4.9
FACTOR = 2
# By how much more the axes go on than the points.
MARGIN = 1.6
BAND = "#EDEDED"
PARTS = ("forward", "backward", "all_to_all", "reduce_scatter")
CAPTION = (
    "TorchRec's estimates against what was measured, both axes logarithmic. On the line they are "
    "equal, in the grey band within a factor of two. Below it, the estimate is too fast."
)


def calibration_figure(comparison: Comparison) -> Figure:
    """A hollow mark for each estimate before the fit, a filled one after it."""
    points = _points(comparison)
    times = [time for part in points.values() for time in part]
    measured = [time.measured_ms for time in times]
    estimated = [ms for time in times for ms in (time.before_ms, time.after_ms)]
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(SIDE, SIDE), layout="constrained")
        axes = figure.subplots()
        axes.set(xscale="log", yscale="log")
        axes.set(xlim=_around(measured), ylim=_around([*measured, *estimated]))
        axes.set(xlabel="Measured, ms", ylabel="Estimated, ms")
        ends = axes.get_xlim()
        low, high = ([end * factor for end in ends] for factor in (1 / FACTOR, FACTOR))
        axes.fill_between(ends, low, high, color=BAND, linewidth=0)
        axes.plot(ends, ends, color=GREY, linewidth=1)
        for index, part in enumerate(PARTS):
            _draw(axes, points[part], {"color": colour(index), "marker": marker(index)})
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axis.set_minor_formatter(NullFormatter())
        _add_legend(figure, [part for part in PARTS if points[part]])
    return figure


def calibration_page(report: CalibrationReport, provenance: Mapping[str, Any]) -> str:
    """The page: what matters first, the picture, all numbers, where the hardware's are from."""
    return to_page(f"Calibration with {report.name}", _sections(report, provenance))


def _sections(report: CalibrationReport, provenance: Mapping[str, Any]) -> Iterator[str]:
    yield f"<h1>Calibration with the tables of {escape(report.name)}</h1>"
    yield from (f"<p><b>{title}</b>: {escape(text)}</p>" for title, text in headline(report))
    yield to_figure(to_svg(calibration_figure(report.calibration.comparison)), CAPTION)
    yield from map(to_html, grids(report))
    yield "<h2>Where the hardware's figures are from</h2><ul>"
    for figure, source in report.calibration.hardware.sources.items():
        yield f"<li>{figure}: {escape(source)}</li>"
    yield "</ul>"
    yield provenance_details("Provenance", provenance)


def _draw(axes: Any, times: Sequence[Compared], style: Mapping[str, Any]) -> None:
    measured = [time.measured_ms for time in times]
    before, after = [time.before_ms for time in times], [time.after_ms for time in times]
    axes.plot(measured, before, linestyle="", mfc="none", mew=1, markersize=4.5, **style)
    axes.plot(measured, after, linestyle="", mew=0, markersize=5.5, alpha=0.8, **style)


def _around(values: Sequence[float]) -> tuple[float, float]:
    return min(values) / MARGIN, max(values) * MARGIN


def _points(comparison: Comparison) -> dict[str, list[Compared]]:
    points: dict[str, list[Compared]] = {part: [] for part in PARTS}
    for lookup in comparison.lookups:
        points[lookup.part].append(lookup.times)
    for exchange in comparison.collectives:
        points[exchange.timing.collective].append(exchange.times)
    return points


def _add_legend(figure: Figure, parts: Sequence[str]) -> None:
    """What marks say: their form and colour the part, their filling before or after."""
    looks: list[dict[str, Any]] = [
        {"color": colour(PARTS.index(part)), "marker": marker(PARTS.index(part))} for part in parts
    ]
    looks += [{"color": "black", "marker": "o", "mfc": filling} for filling in ("none", "black")]
    marks = [Line2D([], [], linestyle="", markersize=5.5, **look) for look in looks]
    names = [*(part.replace("_", "-") for part in parts), "before the fit", "after the fit"]
    figure.legend(marks, names, loc="outside upper left", ncols=3)

"""The picture of a sweep: rows a second against GPUs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke

from dropdrift.training.figures import STYLE, colour, marker, to_svg
from dropdrift.training.plans.sweeps.sweep import Sweep, rate
from dropdrift.training.plans.sweeps.trial import BatchSize, Trial
from dropdrift.training.provenance import whole_file

# Inches. A narrow window has a picture of its own: the wide one scaled down could not be read.
WIDE, NARROW = 9.6, 3.8
PANEL_HEIGHT = 3.6
LEAST_LANE = 0.14
LEGEND_COLUMNS = {WIDE: 8, NARROW: 3}
# Where the best is so many times the worst, heights are logarithms.
LINEAR_SPAN = 30.0
BANDS = "#F4F4F4"
TITLES = {
    False: "The global batch stays: GPUs share its rows",
    True: "Each GPU keeps its rows: the global batch grows",
}
UNITS = ((1e6, "Million rows/s"), (1e3, "Thousand rows/s"), (1.0, "Rows/s"))


@dataclass(frozen=True)
class _Panel:
    """One picture: the trials of one kind of batch.

    Attributes:
        axes: matplotlib's.
        columns: numbers of GPUs, ascending.
        hardware: in the order of their lanes in each column.
        batches: all of the panel, ascending.
        unit: rows a second that a height of 1 is.
    """

    axes: Any
    columns: Sequence[int]
    hardware: Sequence[str]
    batches: tuple[BatchSize, ...]
    unit: float

    def x(self, trial: Trial) -> float:
        """The middle of a trial's lane."""
        lane = self.hardware.index(trial.point.hardware) - (len(self.hardware) - 1) / 2
        return self.columns.index(trial.point.gpus) + 0.86 * lane / len(self.hardware)


def sweep_figure(sweep: Sweep, width: float = WIDE) -> Figure:
    """A column for each number of GPUs, in it a lane for each hardware.

    Batches that are given for all GPUs and those given for each have a panel of their own.

    Args:
        sweep: what to draw.
        width: ``WIDE`` or ``NARROW``, which grows where there are many lanes.
    """
    points = [trial.point for trial in sweep.trials]
    kinds = sorted({point.batch.per_gpu for point in points})
    columns = sorted({point.gpus for point in points})
    hardware = list(dict.fromkeys(point.hardware for point in points))
    most = max((rate(trial) for trial in sweep.trials if trial.fits), default=1.0)
    unit, unit_name = next((u for u in UNITS if most >= u[0]), UNITS[-1])
    with mpl.rc_context(STYLE):
        grown = 0.8 + LEAST_LANE * len(columns) * len(hardware)
        size = (max(width, grown), 0.6 + PANEL_HEIGHT * len(kinds))
        figure = Figure(figsize=size, layout="constrained")
        rows = figure.subplots(len(kinds), 1, squeeze=False)
        for per_gpu, (axes,) in zip(kinds, rows, strict=True):
            trials = [trial for trial in sweep.trials if trial.point.batch.per_gpu == per_gpu]
            batches = sorted({trial.point.batch for trial in trials}, key=lambda b: b.rows)
            panel = _Panel(axes, columns, hardware, tuple(batches), unit)
            _draw_panel(panel, sweep, trials)
            axes.set_title(TITLES[per_gpu], loc="left", fontsize=9.5)
            axes.set(xlabel="GPUs", ylabel=unit_name)
        handles = [
            Line2D([], [], color=colour(index), marker=marker(index), markersize=6.5, label=name)
            for index, name in enumerate(hardware)
        ]
        figure.legend(handles=handles, loc="outside upper left", ncols=LEGEND_COLUMNS[width])
    return figure


def caption_of(sweep: Sweep) -> str:
    """How to read the picture."""
    text = (
        "Estimated rows a second of embeddings alone. Filled marks are on the Pareto front of "
        "their hardware, which a thick line joins; a thin one joins the best for each number of "
        "GPUs."
    )
    if len({trial.point.batch for trial in sweep.trials}) > 1:
        text += " Marks of the front stand for all batch sizes but where they name some."
    if any(not trial.fits for trial in sweep.trials):
        text += " Crosses on the axis: does not fit, with all batch sizes or those named."
    return text


def write_plot(sweep: Sweep, path: Path) -> None:
    """Write the picture as the kind that ``path`` ends in: .svg, .png or .pdf."""
    kind = path.suffix.removeprefix(".")
    with whole_file(path) as partial, mpl.rc_context(STYLE):
        if kind == "svg":
            partial.write_text(to_svg(sweep_figure(sweep)), encoding="utf-8")
        else:
            sweep_figure(sweep).savefig(partial, format=kind, dpi=160)


def _draw_panel(panel: _Panel, sweep: Sweep, trials: Sequence[Trial]) -> None:
    axes = panel.axes
    for index in range(1, len(panel.columns), 2):
        axes.axvspan(index - 0.5, index + 0.5, color=BANDS, zorder=0)
    heights = [rate(trial) / panel.unit for trial in trials if trial.fits]
    for index, name in enumerate(panel.hardware):
        own = [trial for trial in trials if trial.point.hardware == name]
        _draw_lines(panel, sweep, own, index)
        _draw_marks(panel, sweep, own, index)
        _draw_crosses(panel, own, index)
    # From 0 where that shows all, with room for the names of the highest.
    if heights and max(heights) > LINEAR_SPAN * min(heights):
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter("{x:g}")
        axes.set_ylim(min(heights) / 3, max(heights) * 6)
    elif heights:
        axes.set_ylim(0, 1.3 * max(heights))
    else:
        axes.set_yticks([])
    axes.set_xticks(range(len(panel.columns)), [f"{gpus:,}" for gpus in panel.columns])
    axes.set_xlim(-0.5, len(panel.columns) - 0.5)
    axes.grid(visible=False, axis="x")


def _draw_lines(panel: _Panel, sweep: Sweep, own: Sequence[Trial], index: int) -> None:
    """The best of each column joined by a thin line, the front by a thick one."""
    fitting = [trial for trial in own if trial.fits]
    front = [trial for trial in fitting if trial.point in sweep.hardware_fronts]
    for trials, thickness in ((fitting, 0.8), (front, 2.2)):
        # Of equal places the last, which is the highest, stays.
        line = dict(sorted((panel.x(trial), rate(trial) / panel.unit) for trial in trials))
        style = {"color": colour(index), "linewidth": thickness, "alpha": 0.6, "zorder": 2}
        panel.axes.plot([*line], [*line.values()], **style)


def _draw_marks(panel: _Panel, sweep: Sweep, own: Sequence[Trial], index: int) -> None:
    """Hollow ones, and for the batches of a lane that are on the front a filled one with a name."""
    best: dict[float, float] = {}
    front = []
    for trial in (trial for trial in own if trial.fits):
        x, y = panel.x(trial), rate(trial) / panel.unit
        if trial.point in sweep.hardware_fronts:
            front.append(trial)
            best[x] = max(best.get(x, 0.0), y)
        else:
            panel.axes.plot(
                *(x, y, marker(index)),
                markersize=4.5,
                markeredgecolor=colour(index),
                markerfacecolor="white",
                zorder=3,
            )
    places = ((panel.x(trial), best[panel.x(trial)]) for trial in front)
    for (x, y), batches in _together(places, front):
        panel.axes.plot(*(x, y, marker(index)), color=colour(index), markersize=6.5, zorder=4)
        _name(panel.axes, (x, y), named_batches(batches, panel.batches))


def _draw_crosses(panel: _Panel, own: Sequence[Trial], index: int) -> None:
    on_axis = panel.axes.get_xaxis_transform()
    misfits = [trial for trial in own if not trial.fits]
    for place, batches in _together(((panel.x(trial), 0.0) for trial in misfits), misfits):
        panel.axes.plot(
            *(*place, "x"),
            transform=on_axis,
            color=colour(index),
            markersize=6.5,
            markeredgewidth=1.8,
            clip_on=False,
            zorder=4,
        )
        _name(panel.axes, place, named_batches(batches, panel.batches), on_axis)


def _together(
    places: Iterable[tuple[float, float]], trials: Sequence[Trial]
) -> Iterable[tuple[tuple[float, float], list[BatchSize]]]:
    """The batches of each place."""
    batches: dict[tuple[float, float], list[BatchSize]] = {}
    for place, trial in zip(places, trials, strict=True):
        batches.setdefault(place, []).append(trial.point.batch)
    return batches.items()


def named_batches(some: Sequence[BatchSize], of: Sequence[BatchSize]) -> str:
    """``some``, which are not none, in as few letters as tell them from the others of ``of``.

    Nothing where that is all of them.
    """
    places = sorted({of.index(batch) for batch in some})
    first, last = places[0], places[-1]
    if len(places) == len(of):
        return ""
    if first == last:
        return _short(of[first].rows)
    if len(places) < last - first + 1:
        return f"{len(places)} of {len(of)}"
    if first == 0:
        return f"≤{_short(of[last].rows)}"
    if last == len(of) - 1:
        return f"≥{_short(of[first].rows)}"
    return f"{_short(of[first].rows)}–{_short(of[last].rows)}"  # noqa: RUF001  # a range's dash


def _name(axes: Any, place: tuple[float, float], text: str, coordinates: Any = "data") -> None:
    """Text above a mark: nothing in the lane of a front's mark is higher."""
    axes.annotate(
        text,
        place,
        xycoords=coordinates,
        xytext=(0, 7),
        textcoords="offset points",
        rotation=90,
        ha="center",
        va="bottom",
        fontsize=8,
        zorder=5,
        path_effects=[withStroke(linewidth=2.5, foreground="white")],
    )


def _short(rows: int) -> str:
    """``65.5k``: three digits."""
    for unit, name in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if rows >= unit:
            return f"{rows / unit:.3g}{name}"
    return f"{rows}"

"""What all figures share: style, colours, legend, and how they become SVG.

A colour and a marker for each model, safe for the colour-blind (Okabe and Ito, 2008).
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
LINES = ("-", "--", ":", "-.")
GREY = "#767676"
SVG_METADATA = ("Creator", "Date", "Format", "Type")
STYLE = {
    "font.size": 9.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": GREY,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#E4E4E4",
    "grid.linewidth": 0.7,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "xtick.labelcolor": "black",
    "ytick.labelcolor": "black",
    "legend.frameon": False,
    "lines.linewidth": 1.6,
    "lines.markersize": 5,
    # Names inside the SVG come from this and not from chance, so that equal results make equal
    # files.
    "svg.hashsalt": "dropdrift",
}


def to_svg(figure: Figure) -> str:
    """The figure as an ``<svg>`` element; equal figures give equal text."""
    stream = io.StringIO()
    with mpl.rc_context(STYLE):
        figure.savefig(stream, format="svg", metadata=dict.fromkeys(SVG_METADATA))
    text = stream.getvalue()
    return text[text.index("<svg") :]


def colour(index: int) -> str:
    """The colour of the model ``index``."""
    return COLOURS[index % len(COLOURS)]


def marker(index: int) -> str:
    """The marker of the model ``index``."""
    return MARKERS[index % len(MARKERS)]


def line_style(index: int) -> str:
    """The line of the model ``index``: another once the colours are used up."""
    return LINES[index // len(COLOURS) % len(LINES)]


def name_rows(axes: Any, names: Sequence[str]) -> None:
    """Give ``axes`` a row for each name, the first on top."""
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.grid(visible=False, axis="y")


def draw_row(axes: Any, row: int, values: Sequence[float], own: str) -> None:
    """A point in the row for each seed's value, a dash for their mean, in the colour ``own``."""
    axes.plot(values, [row] * len(values), "o", color=own, markersize=4.5, alpha=0.65, mew=0)
    if values:
        mean = sum(values) / len(values)
        axes.plot(mean, row, "|", color=own, markersize=13, mew=2, zorder=3)


def add_legend(figure: Figure, axes: Any) -> None:
    """The models that ``axes`` shows, above the figure."""
    handles, names = axes.get_legend_handles_labels()
    figure.legend(
        handles, names, loc="outside upper left", ncols=min(len(names), 4), markerscale=1.4
    )

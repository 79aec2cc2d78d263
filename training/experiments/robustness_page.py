"""The part of an experiment's page that shows ranking models with fields dropped."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

from dropdrift.training.comparison import Models, curves_of
from dropdrift.training.end_labels import OUTSIDE
from dropdrift.training.experiments.robustness import robustness_grids
from dropdrift.training.experiments.robustness_plots import (
    calibration_panels,
    gain_by_block_figure,
    gain_by_share_figure,
)
from dropdrift.training.figures import to_svg
from dropdrift.training.page import to_figure, to_html


def robustness_section(models: Models, base: str, label: str) -> Iterator[str]:
    """Figures and tables of one task, under a heading; nothing where nothing was dropped.

    Args: as of :func:`~dropdrift.training.experiments.robustness.robustness_grids`.
    """
    grids = list(robustness_grids(models, base, label))
    if not grids:
        return
    yield f"<h2>{escape(label)} with fields dropped</h2>"
    yield '<div class="beside">'
    for title, metric in curves_of(models, label):
        figure = gain_by_share_figure(models, base, label, metric)
        if figure:
            text = f"{title} less that of {base}, of the same seed, by the share of the fields "
            points = "dropped from every row: lines are means, points seeds. Under each share: "
            yield to_figure(to_svg(figure), f"{text}{points}{title} of {base}. {OUTSIDE}")
    for title, metric in curves_of(models, label):
        figure = gain_by_block_figure(models, base, label, metric)
        if figure:
            text = f"{title} less that of {base} with all fields of a side, or all identifiers, "
            yield to_figure(
                to_svg(figure),
                f"{text}dropped: a point is a seed, a dash their mean. Scales differ. {OUTSIDE}",
            )
    yield "</div>"
    yield from map(to_html, grids)


def calibration_section(models: Models, label: str) -> Iterator[str]:
    """The calibration of one task, under a heading; nothing where it was not measured."""
    figure = calibration_panels(models, label)
    if figure:
        yield f"<h2>Calibration of {escape(label)}</h2>"
        text = "Complete rows, by quantiles of the prediction: a line for each seed, the diagonal "
        number = (
            "is calibrated. The number above is the mean prediction over the share of positives."
        )
        yield to_figure(to_svg(figure), text + number)

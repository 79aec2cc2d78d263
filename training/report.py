"""Evaluation results compared in the terminal, and as one HTML page that needs no network."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path

from rich.console import Console

from dropdrift.training.comparison import (
    Grid,
    Models,
    by_model,
    curves_of,
    drops_of,
    labels_of,
    metric_grid,
    robustness_grid,
)
from dropdrift.training.figures import to_svg
from dropdrift.training.page import provenance_details, to_figure, to_html, to_page
from dropdrift.training.plots import calibration_figure, robustness_figure
from dropdrift.training.provenance import write_whole
from dropdrift.training.result import EvaluationResult
from dropdrift.training.terminal import print_grid


def print_comparison(results: Sequence[EvaluationResult], console: Console | None = None) -> None:
    """Print, for each label, models by metrics and the AUC with fields dropped.

    Without a console, to the standard output.

    Raises:
        ValueError: the results cannot be compared (see ``comparison.by_model``).
    """
    console = console or Console()
    models = by_model(results)
    for label in labels_of(models):
        print_grid(metric_grid(models, label), console)
        if len(drops_of(models, label)) > 1:
            print_grid(robustness_grid(models, label, "AUC", "auc"), console)


def write_report(results: Sequence[EvaluationResult], path: Path) -> None:
    """Write the HTML page: metrics, robustness, calibration, missing features, provenance.

    Raises:
        ValueError: the results cannot be compared (see ``comparison.by_model``).
    """
    models = by_model(results)
    title = f"{', '.join(models)}: evaluation on the {results[0].part} part"
    body = [f"<h1>{escape(title)}</h1>"]
    for label in labels_of(models):
        body += _label_section(models, label)
    body += _missing_section(results[0])
    body += _provenance_section(models)
    write_whole(path, to_page(title, body))


def _label_section(models: Models, label: str) -> Iterator[str]:
    yield f"<h2>{escape(label)}</h2>"
    yield to_html(metric_grid(models, label))
    robustness = robustness_figure(models, label)
    if robustness:
        text = f"AUC and UAUC of {label} with fields dropped from every row."
        points = "Each point is a seed, lines and dashes are means over seeds."
        yield to_figure(to_svg(robustness), f"{text} {points}")
        for title, metric in curves_of(models, label):
            grid = to_html(robustness_grid(models, label, title, metric))
            yield f"<details><summary>{title} in numbers</summary>{grid}</details>"
    calibration = calibration_figure(models, label)
    if calibration:
        text = f"Calibration of {label} on complete rows, by quantiles of the prediction."
        yield to_figure(to_svg(calibration), f"{text} A line for each seed.")


def _missing_section(result: EvaluationResult) -> Iterator[str]:
    rates = sorted(result.missing_rate.items(), key=lambda item: -item[1])
    missing = tuple((field, f"{rate:.2%}") for field, rate in rates if rate > 0)
    yield "<h2>Missing features</h2>"
    yield f'<p class="note">Of {len(rates)} fields, {len(missing)} are missing in some rows.</p>'
    if missing:
        grid = to_html(Grid("", ("Field", "Rows without it"), missing))
        yield f"<details><summary>Share of rows by field</summary>{grid}</details>"


def _provenance_section(models: Models) -> Iterator[str]:
    yield "<h2>Provenance</h2>"
    for name, seeds in models.items():
        for result in seeds:
            summary = f"{name}, seed {result.seed}, {result.provenance.get('date')}"
            yield provenance_details(summary, result.provenance)

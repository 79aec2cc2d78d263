"""A sweep as one HTML page that needs no network."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from html import escape
from pathlib import Path
from typing import Any

from dropdrift.sharding.config import PlanLimits
from dropdrift.training.figures import to_svg
from dropdrift.training.page import provenance_details, to_figure, to_html, to_page
from dropdrift.training.plans.sweeps.grids import notes, point_grids, smallest_grid
from dropdrift.training.plans.sweeps.plots import NARROW, WIDE, caption_of, sweep_figure
from dropdrift.training.plans.sweeps.sweep import Sweep
from dropdrift.training.plans.sweeps.trial import Trial
from dropdrift.training.provenance import write_whole

# A picture of many lanes is wider than the window, which then scrolls.
STYLES = """<style>
.wide, .narrow { overflow-x: auto; }
.wide svg, .narrow svg { max-width: none; }
.narrow { display: none; }
@media (max-width: 52rem) { .wide { display: none; } .narrow { display: block; } }
</style>"""


def write_page(
    name: str, sweep: Sweep, limits: PlanLimits, provenance: Mapping[str, Any], path: Path
) -> None:
    """Write the page: the smallest clusters, the picture, all points, provenance.

    Args:
        name: of the configuration that was planned.
        sweep: what came of it.
        limits: that plans were held to.
        provenance: see :mod:`dropdrift.training.provenance`.
        path: file to write.
    """
    title = f"Sweep of {name}"
    body = [STYLES, f"<h1>{escape(title)}</h1>", to_html(smallest_grid(sweep))]
    body += _pictures(sweep)
    body += _points(sweep, limits)
    body.append(provenance_details("Provenance", provenance))
    write_whole(path, to_page(title, body))


def _pictures(sweep: Sweep) -> Iterator[str]:
    """One for wide windows and one for narrow ones; only one is shown."""
    yield "<h2>Rows a second by GPUs</h2>"
    for kind, width in (("wide", WIDE), ("narrow", NARROW)):
        figure = to_figure(to_svg(sweep_figure(sweep, width)), caption_of(sweep))
        yield f'<div class="{kind}">{figure}</div>'


def _points(sweep: Sweep, limits: PlanLimits) -> Iterator[str]:
    yield "<h2>All points</h2>"
    yield from (f'<p class="note">{escape(note)}</p>' for note in notes(sweep, limits))
    yield from map(to_html, point_grids(sweep))
    misfits = [trial for trial in sweep.trials if not trial.fits]
    if misfits:
        yield f"<details><summary>Why {len(misfits)} do not fit</summary><ul>"
        yield from (f"<li>{escape(_why(trial))}</li>" for trial in misfits)
        yield "</ul></details>"


def _why(trial: Trial) -> str:
    point = trial.point
    return f"{point.hardware} {point.cluster}, batch of {point.batch_size:,}: {trial.reason}"

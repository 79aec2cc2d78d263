"""``dropdrift series``: experiments of one plan on several data sets, against what is missing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dropdrift.data.typed_mapping import suggestion
from dropdrift.launchers.options import parse_config


@dataclass(frozen=True)
class SeriesOptions:
    """What to put together.

    Attributes:
        experiments: Folders of 'dropdrift experiment': one plan of ranking models, on data of
            different missing rates.
        out: HTML page to write, self-contained; its tables go beside it as .md, its numbers as
            .json.
        metric: What is compared, as the plan names it; none: the plan's first metric.
        plotted: Variants whose own values are plotted beside the base's and, of 'auc', the
            Bayes-optimal ones of synthetic data; none: all.
    """

    experiments: tuple[Path, ...]
    out: Path
    metric: str | None = None
    plotted: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if len(self.experiments) < 2:
            raise ValueError(
                f"--experiments names {len(self.experiments)}, which makes no series: give at "
                "least 2 folders"
            )
        if self.out.suffix != ".html":
            raise ValueError(f"--out is {str(self.out)!r}, must end in .html")


def run(arguments: list[str]) -> int:
    """Print the tables and write the page."""
    options = parse_config(
        SeriesOptions,
        arguments,
        prog="dropdrift series",
        description="Show what the variants of a plan gain by the missing rate of the data: the "
        "same plan, run by 'dropdrift experiment' on several data sets, such as synthetic ones "
        "of several --missing.",
    )
    from rich.console import Console

    from dropdrift.training.experiments.series import read_series
    from dropdrift.training.experiments.series_page import series_grids, write_series
    from dropdrift.training.provenance import check_writable, provenance
    from dropdrift.training.terminal import print_grid

    series = read_series(options.experiments, options.metric)
    for name in options.plotted:
        if name not in series.rows:
            raise ValueError(
                f"--plotted names {name!r}, which no experiment has"
                f"{suggestion(name, series.rows, str)}; there are: {', '.join(series.rows)}"
            )
    check_writable(options.out)
    plotted = [
        name
        for name in series.rows
        if not options.plotted or name in (series.base, *options.plotted)
    ]
    for grid in series_grids(series):
        print_grid(grid, Console())
    write_series(series, plotted, provenance(options), options.out)
    print(f"Written to {options.out}")
    return 0

"""``dropdrift bench plot``: measurements of the kernels as a page."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path

from dropdrift.launchers.bench import BENCHMARKS
from dropdrift.launchers.options import parse_config


@dataclass(frozen=True)
class PlotOptions:
    """Where the page goes.

    Attributes:
        out: HTML file to write.
    """

    out: Path = Path("runs/bench/kernels.html")


def run(arguments: list[str]) -> int:
    """Draw the measurements of one or more files on one page.

    Raises:
        ValueError: no file is named, one holds no measurements, or the page cannot be written.
    """
    files = list(itertools.takewhile(lambda argument: not argument.startswith("-"), arguments))
    options = parse_config(
        PlotOptions,
        arguments[len(files) :],
        prog="dropdrift bench plot FILES...",
        description=BENCHMARKS["plot"],
    )
    if not files:
        raise ValueError("bench plot needs a file of 'dropdrift bench kernels', found none")
    from dropdrift.benchmarks.kernels.page import kernel_page
    from dropdrift.benchmarks.kernels.record import read_records
    from dropdrift.training.provenance import check_writable, write_whole

    check_writable(options.out)
    runs = [run for file in files for run in read_records(Path(file))]
    write_whole(options.out, kernel_page(runs))
    print(f"Written to {options.out}")
    return 0

"""A calibration in words, as tables and as JSON."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from dropdrift.sharding.calibration.calibrate import Calibration
from dropdrift.sharding.calibration.comparison import Compared, LookupRow
from dropdrift.sharding.cluster import Cluster
from dropdrift.sharding.hardware import FIGURES
from dropdrift.sharding.wording import counted, digits
from dropdrift.training.comparison import Grid
from dropdrift.training.plans.views.grids import milliseconds, size
from dropdrift.training.plans.views.terminal import plan_console, print_fitted, printable

FORMAT = 1  # of the JSON document
# What narrow terminals are not shown of a table, first one first.
OPTIONAL = ("Width", "Rows", "Ids a row", "before")
# What follows each measurement.
ESTIMATES = ("before", "after", "ratio")


@dataclass(frozen=True)
class CalibrationReport:
    """A calibration and what it is of.

    Attributes:
        name: of the configuration whose tables were measured, as the command line called it.
        machine: what was measured.
        cluster: the same as TorchRec's estimates know it, with the hardware to begin with.
        rows_per_rank: rows of a batch on one rank.
        tables: how many the model has; not all of them need be measured.
        precision: what the configuration keeps tables in; measured are fp32.
        calibration: what was found.
    """

    name: str
    machine: str
    cluster: Cluster
    rows_per_rank: int
    tables: int
    precision: str
    calibration: Calibration


def print_calibration(report: CalibrationReport, console: Console | None = None) -> None:
    """Print what matters first, then tables, exchanges and the hardware's figures.

    Args:
        report: what to print.
        console: without one, :func:`plan_console`.
    """
    console = console or plan_console()
    console.print(Text(f"Calibration with the tables of {printable(report.name)}\n", style="bold"))
    lines = Table.grid(padding=(0, 2, 0, 0))
    for title, text in headline(report):
        lines.add_row(Text(title, style="bold"), Text(printable(text)))
    console.print(lines)
    for grid in grids(report):
        print_fitted(grid, console, OPTIONAL)


def document(report: CalibrationReport, provenance: Mapping[str, Any]) -> dict[str, Any]:
    """All numbers; times are in milliseconds, keys are the attributes that hold them."""
    comparison, cluster = report.calibration.comparison, report.cluster
    return {
        "kind": "calibration",
        "format": FORMAT,
        "name": report.name,
        "machine": report.machine,
        "nodes": cluster.nodes,
        "ranks_per_node": cluster.ranks_per_node,
        "rows_per_rank": report.rows_per_rank,
        "tables": report.tables,
        "base": cluster.hardware,
        "hardware": report.calibration.hardware,
        "agreement": {
            "lookups": comparison.agreement_of_lookups(),
            "forward": comparison.agreement_of_lookups("forward"),
            "backward": comparison.agreement_of_lookups("backward"),
            "collectives": comparison.agreement_of_collectives(),
        },
        "lookups": [
            {
                "table": forward.timing.table,
                "measured_rows": forward.timing.rows,
                "forward": _times(forward.times, forward.timing.forward_ms),
                "backward": _times(backward.times, backward.timing.backward_ms),
            }
            for forward, backward in _of_tables(report)
        ],
        "collectives": [
            {
                "collective": row.timing.collective,
                "size": row.timing.size,
                **_times(row.times, row.timing.times_ms),
            }
            for row in comparison.collectives
        ],
        "lines": report.calibration.lines,
        "provenance": provenance,
    }


def headline(report: CalibrationReport) -> tuple[tuple[str, str], ...]:
    """What matters first, as pairs of a name and its value."""
    cluster, comparison = report.cluster, report.calibration.comparison
    both = comparison.agreement_of_lookups()
    forward = comparison.agreement_of_lookups("forward")
    backward = comparison.agreement_of_lookups("backward")
    exchanges = comparison.agreement_of_collectives()
    return (
        (
            "Measured",
            f"{report.machine}; {counted(cluster.world_size, 'rank')} on "
            f"{counted(cluster.nodes, 'node')}",
        ),
        (
            "Rows",
            f"{report.rows_per_rank:,} of a rank; a lookup is of all ranks' "
            f"{report.rows_per_rank * cluster.world_size:,}",
        ),
        ("Tables", _tables_text(report)),
        (
            "Lookups",
            f"half of TorchRec's estimates are within a factor of {digits(both.after)} of what was "
            f"measured, before the fit {digits(both.before)}; of forwards {digits(forward.after)} "
            f"({digits(forward.before)}), of backwards {digits(backward.after)} "
            f"({digits(backward.before)})",
        ),
        (
            "Exchanges",
            f"half of the estimates are within a factor of {digits(exchanges.after)}, before the "
            f"fit {digits(exchanges.before)}"
            if exchanges
            else "not measured: one rank has nobody to exchange with",
        ),
        ("Does not fit", misfit(report.calibration)),
    )


def misfit(calibration: Calibration) -> str:
    """What no bandwidth mends: TorchRec has one for all lookups and one for all exchanges."""
    ratios = [row.times.ratio_after for row in calibration.comparison.lookups]
    least = min(statistics.median(timing.forward_ms) for timing in calibration.lookups)
    text = (
        "lookups have one bandwidth in TorchRec: estimates with the fitted one are "
        f"{digits(min(ratios))} to {digits(max(ratios))} times what was measured, and no lookup "
        f"takes less than {milliseconds(least)} ms here, however little it reads"
    )
    if calibration.lines:
        here = ", ".join(
            f"{line.collective} {milliseconds(line.latency_ms)} ms and {digits(line.gb_per_s)} GB/s"
            for line in calibration.lines
        )
        text += f"; exchanges have one bandwidth and no latency, here there are: {here}"
    return text


def grids(report: CalibrationReport) -> list[Grid]:
    """Tables, slowest first; exchanges, where there were any; the hardware's figures."""
    return [
        _lookup_grid(report),
        *([_collective_grid(report.calibration)] if report.calibration.lines else []),
        _figure_grid(report),
    ]


def _lookup_grid(report: CalibrationReport) -> Grid:
    tables = sorted(
        _of_tables(report), key=lambda parts: -sum(part.times.measured_ms for part in parts)
    )
    return Grid(
        "Lookups: measured ms, estimates before and after the fit, the latter over the measured",
        ("Table", "Rows", "Width", "Ids a row", "Forward", *ESTIMATES, "Backward", *ESTIMATES),
        tuple(
            (
                forward.timing.table.name,
                f"{forward.timing.table.rows:,}",
                f"{forward.timing.table.width}",
                f"{sum(forward.timing.table.pooling_factors):.3g}",
                *_cells(forward.times),
                *_cells(backward.times),
            )
            for forward, backward in tables
        ),
    )


def _collective_grid(calibration: Calibration) -> Grid:
    return Grid(
        "Exchanges: measured ms, estimates before and after the fit, the latter over the measured",
        ("Exchange", "From a rank", "Time", *ESTIMATES),
        tuple(
            (row.timing.collective, size(row.timing.size), *_cells(row.times))
            for row in calibration.comparison.collectives
        ),
    )


def _figure_grid(report: CalibrationReport) -> Grid:
    before, after = report.cluster.hardware, report.calibration.hardware
    return Grid(
        f"Hardware {printable(after.name)}, before the fit {printable(before.name)}",
        ("Figure", "before", "after", "measured"),
        tuple(
            (
                figure,
                _figure_text(getattr(before, figure)),
                _figure_text(getattr(after, figure)),
                "yes" if after.sources[figure].startswith("measured") else "no",
            )
            for figure in FIGURES
            if getattr(after, figure)
        ),
    )


def _of_tables(report: CalibrationReport) -> list[tuple[LookupRow, LookupRow]]:
    """Forward and backward of each table."""
    rows = report.calibration.comparison.lookups
    return list(zip(rows[::2], rows[1::2], strict=True))


def _tables_text(report: CalibrationReport) -> str:
    timings = report.calibration.lookups
    cut = [timing for timing in timings if timing.is_cut]
    text = f"all {report.tables}"
    if len(timings) < report.tables:
        text = f"{len(timings)} of {report.tables}, different ones that stand for all"
    if cut:
        text += f"; {len(cut)} cut to {cut[0].rows:,} rows"
    if report.precision != "fp32":
        text += f"; in fp32, though the configuration keeps them in {report.precision}"
    return text


def _figure_text(figure: float) -> str:
    return f"{figure:,}" if isinstance(figure, int) else digits(figure)


def _cells(times: Compared) -> tuple[str, str, str, str]:
    estimates = (times.measured_ms, times.before_ms, times.after_ms)
    return (*map(milliseconds, estimates), digits(times.ratio_after))  # type: ignore[return-value]  # four


def _times(times: Compared, repetitions: Sequence[float]) -> dict[str, Any]:
    return {
        "before_ms": times.before_ms,
        "after_ms": times.after_ms,
        "measured_ms": times.measured_ms,
        "times_ms": repetitions,
    }

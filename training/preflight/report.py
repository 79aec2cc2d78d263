"""What the check of all ranks came to: a table of at most 100 columns, and JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from dropdrift.sharding.wording import counted, digits, gib
from dropdrift.training.comparison import Grid
from dropdrift.training.plans.views.terminal import print_fitted, printable
from dropdrift.training.preflight.judgement import Finding
from dropdrift.training.preflight.machine import Machine
from dropdrift.training.preflight.measuring import Exchange, Link, Work
from dropdrift.training.provenance import plain, write_result

WIDTH = 100
RANKS_SHOWN = 32  # of more, those that something was found of; the JSON has all
SHOWN_VERSIONS = ("dropdrift", "git revision", "python", "torch", "torchrec", "triton")

_UNITS = {1 << 20: "MiB", 1 << 10: "KiB", 1: "bytes"}


@dataclass(frozen=True)
class Preflight:
    """All that was gathered and measured; the same on every rank.

    Attributes:
        machines: every rank.
        works: every rank's own.
        exchanges: of all ranks; none where there is only one.
        links: between two of them.
        findings: what makes all of them wait, or may.
        provenance: of the first rank.
    """

    machines: Sequence[Machine]
    works: Sequence[Work]
    exchanges: Sequence[Exchange]
    links: Sequence[Link]
    findings: Sequence[Finding]
    provenance: Mapping[str, Any]

    def document(self) -> dict[str, Any]:
        """For JSON: times in seconds, sizes in bytes, bandwidths in bytes a second."""
        bandwidths = ("algorithm_bandwidth", "bus_bandwidth")
        return {
            "ranks": plain(self.machines),
            "works": [_with(work, ("flops", "copy_bandwidth")) for work in self.works],
            "exchanges": [_with(exchange, bandwidths) for exchange in self.exchanges],
            "links": [_with(link, ("bandwidth",)) for link in self.links],
            "findings": plain(self.findings),
            "provenance": self.provenance,
        }

    def save(self, path: Path) -> None:
        """Write :meth:`document` to ``path``."""
        write_result(path, self.document())


def print_preflight(report: Preflight, console: Console | None = None) -> None:
    """Print the ranks, what they exchange, and who is slow."""
    console = console or _console()
    hosts = counted(len({machine.host for machine in report.machines}), "host")
    ranks = counted(len(report.machines), "rank")
    devices = ", ".join(sorted({machine.device_name for machine in report.machines}))
    console.print(Text(f"Preflight of {ranks} on {hosts}, {printable(devices)}", style="bold"))
    versions = report.machines[0].versions
    shown = (f"{name} {versions[name]}" for name in SHOWN_VERSIONS if name in versions)
    console.print(Text(", ".join(shown)))
    print_fitted(_rank_grid(report), console, ("Process",))
    left_out = len(report.machines) - RANKS_SHOWN
    if left_out > 0:
        console.print(Text(f"Ranks that nothing is said of are left out; {ranks} in all."))
    if report.exchanges:
        print_fitted(_exchange_grid(report.exchanges), console)
    else:
        console.print("\nOne rank: there is nothing to exchange.")
    for finding in report.findings:
        console.print(Text(f"warning: {printable(finding.text)}"), soft_wrap=True)


def size_text(size: int) -> str:
    """``16 MiB``, to a tenth."""
    unit = next((unit for unit in _UNITS if size >= 0.95 * unit), 1)
    return f"{round(size / unit, 1):g} {_UNITS[unit]}"


def _console() -> Console:
    """No wider than 100 columns, which also is what a log gets."""
    console = Console()
    return Console(width=min(console.width, WIDTH) if console.is_terminal else WIDTH)


def _rank_grid(report: Preflight) -> Grid:
    named = {rank for finding in report.findings for rank in finding.ranks}
    machines = report.machines
    if len(machines) > RANKS_SHOWN:
        machines = [machine for machine in machines if machine.rank in named][:RANKS_SHOWN]
    slowest = {
        rank: min(link.bandwidth for link in report.links if rank in (link.source, link.target))
        for rank in {link.target for link in report.links}
    }
    works = {work.rank: work for work in report.works}
    return Grid(
        "Ranks",
        ("Rank", "Process", "Device", "Free GiB", "GFLOP/s", "Copy GB/s", "Slowest link GB/s"),
        tuple(
            (
                f"{machine.rank} on {machine.host}",
                str(machine.process),
                machine.device,
                "?" if machine.free_memory is None else gib(machine.free_memory),
                digits(works[machine.rank].flops / 1e9),
                digits(works[machine.rank].copy_bandwidth / 1e9),
                digits(slowest[machine.rank] / 1e9) if machine.rank in slowest else "-",
            )
            for machine in machines
        ),
    )


def _exchange_grid(exchanges: Sequence[Exchange]) -> Grid:
    return Grid(
        "Exchanges of all ranks",
        ("Exchange", "Of each rank", "Median ms", "Algorithm GB/s", "Bus GB/s"),
        tuple(
            (
                exchange.collective,
                size_text(exchange.size),
                digits(exchange.seconds * 1e3),
                f"{exchange.algorithm_bandwidth / 1e9:.3g}",
                f"{exchange.bus_bandwidth / 1e9:.3g}",
            )
            for exchange in exchanges
        ),
    )


def _with(measured: Exchange | Link | Work, properties: Sequence[str]) -> dict[str, Any]:
    entry: dict[str, Any] = plain(measured)
    return entry | {name: getattr(measured, name) for name in properties}

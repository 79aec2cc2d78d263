"""``dropdrift index``: item vectors of a run in an index, with its recall and latency."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.table import Table

from dropdrift.launchers.options import parse_config
from dropdrift.launchers.trained import trained_config
from dropdrift.training.retrieval.config import IndexConfig

if TYPE_CHECKING:
    from dropdrift.training.retrieval.index import Built
    from dropdrift.training.retrieval.measure import Latency


def run(arguments: list[str]) -> int:
    """Build an index and say how it does against exact search."""
    options = parse_config(
        IndexConfig,
        arguments,
        prog="dropdrift index",
        description="Index the items of a matching model's best checkpoint, and measure the index.",
    )
    config = trained_config(options.run_folder)
    from dropdrift.training.retrieval.index import build_index

    built = build_index(options, config)
    if built is not None:
        print_built(built)
        print(f"Written to {options.out}")
    return 0


def print_built(built: Built, console: Console | None = None) -> None:
    """Print what was built and measured."""
    console = console or Console()
    measured = built.measured
    chosen = ", ".join(f"{name} {value}" for name, value in built.parameters.items())
    console.print(
        f"{built.kind}{f' ({chosen})' if chosen else ''}: {built.items:,} items of width "
        f"{built.width}, {built.bytes / 1e6:.2f} MB, built in {built.build_seconds:.2f} s "
        f"(model and vectors {built.vector_seconds:.1f} s)",
        highlight=False,
        soft_wrap=True,
    )
    users = f"{measured.users:,} users, {measured.threads} threads, milliseconds a user"
    table = Table(box=box.SIMPLE_HEAD, title=users, title_justify="left")
    table.add_column("search")
    batch = f"{measured.batched.users} at once"
    for name in (f"recall@{measured.k}", f"{batch}: median", "p99", "one at once: median", "p99"):
        table.add_column(name, justify="right")
    rows: list[tuple[str, float, Latency, Latency]] = [
        (built.kind, measured.recall, measured.batched, measured.single),
        ("exact", 1.0, measured.exact_batched, measured.exact_single),
    ]
    for name, recall, batched, single in rows:
        times = (batched.median, batched.p99, single.median, single.p99)
        table.add_row(name, f"{recall:.4f}", *(f"{value:.4f}" for value in times))
    console.print(table)

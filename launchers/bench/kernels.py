"""``dropdrift bench kernels``: the kernels next to what they replace."""

from __future__ import annotations

import sys

from dropdrift.benchmarks.kernels.config import KernelOptions
from dropdrift.data.progress import progress_bar
from dropdrift.launchers.bench import BENCHMARKS
from dropdrift.launchers.options import parse_config

FAILED = 1


def run(arguments: list[str]) -> int:
    """Check and time providers, print a table for each size and direction, and keep it all."""
    options = parse_config(
        KernelOptions,
        arguments,
        prog="dropdrift bench kernels",
        description=BENCHMARKS["kernels"],
    )
    from dropdrift.benchmarks.kernels.record import append_records
    from dropdrift.benchmarks.kernels.run import KernelBenchmark
    from dropdrift.benchmarks.kernels.table import introduction, table, wrong
    from dropdrift.training.provenance import check_writable

    check_writable(options.out)
    benchmark = KernelBenchmark(options)
    print("\n".join(introduction(benchmark.device, benchmark.threads, benchmark.ceilings)))
    failed = False
    with progress_bar(sys.stderr.isatty(), "steps") as bar:
        bar.live.transient = True  # it makes way for each table
        task = bar.add_task("", total=benchmark.steps)
        for part in benchmark.parts(
            lambda what: bar.update(task, description=what), lambda: bar.advance(task)
        ):
            append_records(options.out, part)
            bar.stop()
            print("\n" + "\n".join(table(part.measurements)), flush=True)
            bar.start()
            failed = failed or bool(wrong(part))
    print(f"\nAppended to {options.out}")
    if failed:
        print("dropdrift: some results are wrong, see the tables", file=sys.stderr)
    return FAILED if failed else 0

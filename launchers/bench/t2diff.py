"""``dropdrift bench t2diff``: what a user's vector costs."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import TYPE_CHECKING

from dropdrift.benchmarks.config import T2DiffOptions
from dropdrift.launchers.bench import BENCHMARKS
from dropdrift.launchers.options import parse_config

if TYPE_CHECKING:
    from dropdrift.benchmarks.t2diff import UserCosts

FAILED = 1


def run(arguments: list[str]) -> int:
    """Time users' vectors by T2Diff, with and without its reverse process, and by SASRec."""
    options = parse_config(
        T2DiffOptions,
        arguments,
        prog="dropdrift bench t2diff",
        description=BENCHMARKS["t2diff"],
    )
    from dropdrift.benchmarks.contenders import WrongResultError
    from dropdrift.benchmarks.t2diff import measure_user_costs
    from dropdrift.training.provenance import check_writable, provenance, write_result

    check_writable(options.out)
    try:
        costs = measure_user_costs(options, lambda line: print(line, file=sys.stderr, flush=True))
    except WrongResultError as error:
        print(f"dropdrift: {error}", file=sys.stderr)
        return FAILED
    print("\n".join(_user_cost_lines(options, costs)))
    payload = {
        "kind": "t2diff-cost",
        **asdict(costs),
        "provenance": provenance(options, options.seed),
    }
    write_result(options.out, payload)
    print(f"Written to {options.out}")
    return 0


def _user_cost_lines(options: T2DiffOptions, costs: UserCosts) -> list[str]:
    """A table for each width, at most 100 columns."""
    compiled = ", compiled" if options.compile else ""
    where = f"{costs.device}{compiled}"
    if costs.device == "cpu":
        where = f"{costs.threads} CPU thread{'s' * (costs.threads > 1)}{compiled}"
    lines = [
        f"{where}; batches of {options.batch_size} users, window {options.window}; load average "
        f"{costs.load[0]} to {costs.load[1]}",
        "median (lowest to highest) ms a user; ratios of batches to the first two",
    ]
    for measured in costs.widths:
        lines += [
            "",
            f"{f'width {measured.width}':<27}{'in batches':>27}{'CPU time':>10}{'one user':>10}"
            f"{'to SASRec':>12}{'to last':>10}",
        ]
        for cost in measured.costs:
            lines.append(
                f"{cost.name:<27}{cost.batched_ms.text(3):>27}{cost.cpu_ms.median:>10.3f}"
                f"{cost.single_ms.median:>10.2f}{cost.to_sasrec.median:>12.2f}"
                f"{cost.to_last.median:>10.2f}"
            )
    return lines

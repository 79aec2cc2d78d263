"""``dropdrift bench``: benchmarks."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from dropdrift.benchmarks.config import T2DiffOptions, TrainingStepOptions
from dropdrift.launchers.options import parse_config
from dropdrift.launchers.prepare import SyntheticOptions, prepare_source
from dropdrift.training.config import TrainConfig

if TYPE_CHECKING:
    from dropdrift.benchmarks.spread import Spread
    from dropdrift.benchmarks.t2diff import UserCosts

FAILED = 1


def run(arguments: list[str]) -> int:
    """Run a benchmark: the one that is named first, or ``training-step``."""
    if arguments[:1] in (["-h"], ["--help"]):
        print(_help())
        return 0
    name = "training-step"
    if arguments and not arguments[0].startswith("-"):
        name, arguments = arguments[0], arguments[1:]
    if name not in BENCHMARKS:
        raise ValueError(f"unknown benchmark {name!r}; there are: {', '.join(BENCHMARKS)}")
    return BENCHMARKS[name][0](arguments)


def training_step(arguments: list[str]) -> int:
    """Time training steps of DCN-V2 and AsymDiffRec, and the loader by itself."""
    options = parse_config(
        TrainingStepOptions,
        arguments,
        prog="dropdrift bench training-step",
        description=BENCHMARKS["training-step"][1],
    )
    from dropdrift.benchmarks.training_step import measure_step_costs
    from dropdrift.training.provenance import provenance, write_result

    config = parse_config(
        TrainConfig,
        ["--recipe", options.recipe, "--data.path", str(options.data or _synthetic(options.out))],
        prog="dropdrift bench training-step",
        description="",
        recipe=True,
    )
    costs = measure_step_costs(config, options.steps, options.repetitions)
    print(f"batch of {config.data.batch_size} rows; median (lowest to highest)")
    print(f"DCN-V2        {_text(costs.base_ms)} ms a step")
    print(f"AsymDiffRec   {_text(costs.asymdiffrec_ms)} ms a step")
    print(f"ratio         {_text(costs.ratio)}")
    print(f"loader alone  {_text(costs.loader_rows_per_second)} rows/s,")
    print(f"              {costs.loader_ratio:.1f} times what DCN-V2's training takes")
    payload = {
        "kind": "training-step",
        **asdict(costs),
        "provenance": provenance({"benchmark": options, "training": config}, config.loop.seed),
    }
    write_result(options.out, payload)
    print(f"Written to {options.out}")
    return 0


def t2diff(arguments: list[str]) -> int:
    """Time users' vectors by T2Diff, with and without its reverse process, and by SASRec."""
    options = parse_config(
        T2DiffOptions,
        arguments,
        prog="dropdrift bench t2diff",
        description=BENCHMARKS["t2diff"][1],
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


BENCHMARKS: dict[str, tuple[Callable[[list[str]], int], str]] = {
    "training-step": (
        training_step,
        "Time training steps of DCN-V2 and AsymDiffRec, and the loader by itself.",
    ),
    "t2diff": (
        t2diff,
        "Time users' vectors by T2Diff, with and without its reverse process, and by SASRec.",
    ),
}


def _help() -> str:
    lines = [f"  {name:<14} {description}" for name, (_, description) in BENCHMARKS.items()]
    return "\n".join(
        [
            "usage: dropdrift bench [BENCHMARK] [OPTIONS]",
            "",
            "Run a benchmark; without a name, training-step.",
            "",
            *lines,
            "",
            "'dropdrift bench BENCHMARK --help' lists the options of one.",
        ]
    )


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


def _synthetic(out: Path) -> Path:
    """The default data set, made once."""
    from dropdrift.data.synthetic import SyntheticSource

    folder = out.parent / "synthetic"
    if not folder.exists():
        data = SyntheticOptions(out=folder, rows=60_000)
        prepare_source(SyntheticSource(rows=data.rows), data)
    return folder


def _text(spread: Spread) -> str:
    return spread.text(0 if spread.median >= 1000 else 2)

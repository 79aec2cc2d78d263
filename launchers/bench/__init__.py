"""``dropdrift bench``: one module for each benchmark."""

from __future__ import annotations

import importlib

from dropdrift.data.typed_mapping import suggestion

DEFAULT = "training-step"

# Benchmark: what it does. The module of its name has ``run(arguments) -> exit code``.
BENCHMARKS = {
    DEFAULT: "Time training steps of DCN-V2 and AsymDiffRec, and the loader by itself.",
    "t2diff": "Time users' vectors by T2Diff, with and without its reverse process, and by SASRec.",
    "inspect": "What the Triton kernels take of a GPU, compiled without one, and their budgets.",
}


def run(arguments: list[str]) -> int:
    """Run a benchmark: the one that is named first, or ``training-step``.

    Raises:
        ValueError: there is none of that name, or whatever it refuses.
    """
    if arguments[:1] in (["-h"], ["--help"]):
        print(_help())
        return 0
    name = DEFAULT
    if arguments and not arguments[0].startswith("-"):
        name, arguments = arguments[0], arguments[1:]
    if name not in BENCHMARKS:
        raise ValueError(
            f"unknown benchmark {name!r}; there are: {', '.join(BENCHMARKS)}"
            f"{suggestion(name, BENCHMARKS, str)}"
        )
    module = importlib.import_module(f"dropdrift.launchers.bench.{name.replace('-', '_')}")
    code: int = module.run(arguments)
    return code


def _help() -> str:
    width = max(map(len, BENCHMARKS))
    return "\n".join(
        [
            "usage: dropdrift bench [BENCHMARK] [OPTIONS]",
            "",
            f"Run a benchmark; without a name, {DEFAULT}.",
            "",
            *(f"  {name:<{width}}  {about}" for name, about in BENCHMARKS.items()),
            "",
            "'dropdrift bench BENCHMARK --help' lists the options of one.",
        ]
    )

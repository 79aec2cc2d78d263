"""``dropdrift bench``: one module for each benchmark."""

from __future__ import annotations

import importlib

from dropdrift.data.typed_mapping import suggestion
from dropdrift.launchers.stack import require_matched_stack

DEFAULT = "training-step"

# Benchmark: what it does. The module of its name has ``run(arguments) -> exit code``.
BENCHMARKS = {
    DEFAULT: "Time training steps of DCN-V2 and a method around it, and the loader by itself.",
    "t2diff": "Time users' vectors by T2Diff, with and without its reverse process, and by SASRec.",
    "kernels": "Check and time the kernels, next to plain torch and torch.compile.",
    "plot": "Draw measurements of 'kernels' on a page that needs no network.",
    "compare": "What became slower: against a git revision, or between two files of 'kernels'.",
    "inspect": "What the Triton kernels take of a GPU, compiled without one, and their budgets.",
}

# Those that import torchrec, which must match torch; the others run wherever torch does.
WITH_TORCHREC = (DEFAULT, "t2diff")


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
    if name in WITH_TORCHREC and {"-h", "--help"}.isdisjoint(arguments):
        require_matched_stack()
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

"""``dropdrift plan``: one module for each of its subcommands."""

from __future__ import annotations

import importlib

from dropdrift.data.typed_mapping import suggestion
from dropdrift.launchers.processes import number_of_processes

# Subcommand: what it does. The module of its name has ``run(arguments) -> exit code``.
SUBCOMMANDS = {
    "show": "the plan of a model on a cluster: tables, pictures, JSON",
    "explain": "every option of one table, and why it lost",
    "sweep": "the smallest cluster that fits, and what more would bring",
    "save": "a plan to train with",
    "diff": "two plans compared, with the bytes that move",
    "calibrate": "measure this machine, for estimates that hold on it",
}


def run(arguments: list[str]) -> int:
    """Run a subcommand.

    Raises:
        ValueError: there is none of that name, or one that runs on one process was started on many.
    """
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_help())
        return 0 if arguments else 2
    name, rest = arguments[0], arguments[1:]
    if name not in SUBCOMMANDS:
        raise ValueError(
            f"unknown subcommand {name!r} of plan{suggestion(name, SUBCOMMANDS, str)}; "
            f"there are: {', '.join(SUBCOMMANDS)}"
        )
    if name != "calibrate" and number_of_processes() > 1:
        raise ValueError(f"plan {name} runs on one process: start it without torchrun")
    code: int = importlib.import_module(f"dropdrift.launchers.plan.{name}").run(rest)
    return code


def _help() -> str:
    width = max(map(len, SUBCOMMANDS))
    return "\n".join(
        [
            "usage: dropdrift plan SUBCOMMAND ...",
            "",
            "Sharding plans, made by TorchRec's planner on any machine for any cluster.",
            "",
            *(f"  {name:<{width}}  {about}" for name, about in SUBCOMMANDS.items()),
            "",
            "'dropdrift plan SUBCOMMAND --help' lists the options of one.",
        ]
    )

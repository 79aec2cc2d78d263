"""``dropdrift launch``: Dropdrift's commands on one machine or a cluster, through TorchX."""

from __future__ import annotations

import importlib

from dropdrift.data.typed_mapping import suggestion

# What can be launched, and what is done with jobs that were.
LAUNCHED = {
    "train": "dropdrift train on the nodes and processes of -j",
    "evaluate": "dropdrift evaluate on them",
    "preflight": "dropdrift preflight on them: a check of all ranks alone",
    "bench": "dropdrift bench on one process",
    "plan": "dropdrift plan, made for the nodes of -j and --hardware",
}
ABOUT_JOBS = {
    "status": "how a job stands",
    "log": "what a job has said",
    "cancel": "end a job",
}


def run(arguments: list[str]) -> int:
    """Run a subcommand.

    Raises:
        ValueError: there is none of that name, TorchX is not installed, or whatever it refuses.
    """
    if not arguments or arguments[0] in ("-h", "--help"):
        print(_help())
        return 0 if arguments else 2
    name, rest = arguments[0], arguments[1:]
    known = LAUNCHED | ABOUT_JOBS
    if name not in known:
        raise ValueError(
            f"unknown subcommand {name!r} of launch{suggestion(name, known, str)}; "
            f"there are: {', '.join(known)}"
        )
    module = "submit" if name in LAUNCHED else "jobs"
    code: int = importlib.import_module(f"dropdrift.launchers.launch.{module}").run(name, rest)
    return code


def _help() -> str:
    known = LAUNCHED | ABOUT_JOBS
    width = max(map(len, known))
    return "\n".join(
        [
            "usage: dropdrift launch COMMAND [OPTIONS] [-- OPTIONS OF THE COMMAND]",
            "       dropdrift launch status|log|cancel HANDLE",
            "",
            "Run Dropdrift's commands on this machine, Slurm, Kubernetes or Docker, by TorchX.",
            "",
            *(f"  {name:<{width}}  {about}" for name, about in known.items()),
            "",
            "'dropdrift launch COMMAND --help' lists the options of one.",
        ]
    )

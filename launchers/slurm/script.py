"""The batch script of a Slurm job: one task a node, each of which starts its own processes.

A homogeneous job, as Slurm 22.05 to 24.11 take it. ``--ntasks`` and ``--gpus-per-node`` are always
explicit, since versions differ in what they make of the one without the other.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dropdrift import __version__
from dropdrift.launchers.launch.application import PORT_VARIABLE
from dropdrift.launchers.main import USER_ERROR

# Stands for the job's number until Slurm has given one. Not TorchX's own mark for it, which an
# argument of the user's may hold.
APP_ID = "@job-number@"
RANK0_VARIABLE = "TORCHX_RANK0_HOST"

# How long the other nodes may go on when one has ended.
_SECONDS_TO_FOLLOW = 30

# Ports of jobs: below the ephemeral ones, that of a job by its number.
_FIRST_PORT, _PORTS = 20_000, 10_000
_TIME = re.compile(r"\d+(:\d+){0,2}|\d+-\d+(:\d+){0,2}")
_ONE_WORD = re.compile(r"[^\s\x00-\x1f]+")


@dataclass(frozen=True)
class Submission:
    """What sbatch is asked.

    Attributes:
        name: Of the job, and first in the names of its logs.
        nodes: Machines, of one task each.
        command: The task's words; APP_ID in them becomes the job's number.
        environment: Variables of the job; likewise.
        log_folder: Absolute path of the folder for logs; every node must see it.
        gpus_per_node: 0: none are asked for.
        cpus_per_task: Cores of each node.
        memory_mib: Of each node; 0: the partition's default.
        max_requeues: How often the job goes back into the queue, before its time limit or after a
            failure that is no mistake of the user's.
        warning_seconds: How long before its time limit the job is told to stop; 0: never.
        options: More of sbatch's options, without their dashes, such as account and partition.
    """

    name: str
    nodes: int
    command: Sequence[str]
    environment: Mapping[str, str]
    log_folder: Path
    gpus_per_node: int = 0
    cpus_per_task: int = 1
    memory_mib: int = 0
    max_requeues: int = 0
    warning_seconds: int = 120
    options: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        time = self.options.get("time")
        if time is not None and not _TIME.fullmatch(time):
            raise ValueError(
                f"time is {time!r}, must be minutes, hours:minutes:seconds or "
                "days-hours:minutes:seconds"
            )
        for name, value in {"log_dir": str(self.log_folder), **self.options}.items():
            if not _ONE_WORD.fullmatch(value):
                raise ValueError(f"{name} is {value!r}, must be one word: sbatch would cut it")
        if "%" in str(self.log_folder):
            raise ValueError(f"log_dir is {str(self.log_folder)!r}, and % stands for more in Slurm")
        if self.warning_seconds < 0:
            raise ValueError(f"warning is {self.warning_seconds}, must not be negative")


def sbatch_script(job: Submission) -> str:
    """The script, whose ``#SBATCH`` lines hold all options."""
    environment = [f"export {name}={_words(value)}" for name, value in job.environment.items()]
    return "\n".join(
        [
            "#!/bin/bash",
            f"# Written by dropdrift {__version__}.",
            *(f"#SBATCH --{option}" for option in _sbatch_options(job)),
            "",
            "set -uo pipefail",
            "",
            *environment,
            *_MEETING_PLACE,
            "",
            *_TRAP,
            "",
            f"srun {' '.join(_srun_options(job))} \\",
            f"  {' '.join(map(_words, job.command))} &",
            *_WAIT,
            "",
            f"max_requeues={job.max_requeues}",
            *_REQUEUE,
            "",
        ]
    )


def log_pattern(job_id: str, task: int | str) -> str:
    """Glob of a task's log in the folder of logs."""
    return f"*-{job_id}-{task}.log"


def _sbatch_options(job: Submission) -> list[str]:
    options = {
        "job-name": job.name,
        "nodes": str(job.nodes),
        "ntasks": str(job.nodes),
        "ntasks-per-node": "1",
        "cpus-per-task": str(job.cpus_per_task),
        "output": f"{job.log_folder}/{job.name}-%j.log",
        "open-mode": "append",
    }
    if job.gpus_per_node:
        options["gpus-per-node"] = str(job.gpus_per_node)
    if job.memory_mib:
        options["mem"] = f"{job.memory_mib}M"
    if job.warning_seconds:
        # B: the batch shell alone, which tells the tasks.
        options["signal"] = f"B:USR1@{job.warning_seconds}"
    written = [f"{name}={value}" for name, value in (options | dict(job.options)).items()]
    return [*written, "requeue" if job.max_requeues else "no-requeue"]


def _srun_options(job: Submission) -> list[str]:
    return [
        # srun has not taken this from sbatch since 22.05.
        f"--cpus-per-task={job.cpus_per_task}",
        f"--output={job.log_folder}/{job.name}-%j-%t.log",
        "--open-mode=append",
        # A node that fails ends the others, but not before they have said of themselves how they
        # end: srun's exit code is the highest, and that of a task which it kills is 137.
        "--kill-on-bad-exit=0",
        f"--wait={_SECONDS_TO_FOLLOW}",
    ]


def _words(text: str) -> str:
    """``text`` quoted for the shell, with the job's number for APP_ID."""
    return (
        '"$SLURM_JOB_ID"'.join(shlex.quote(part) if part else "" for part in text.split(APP_ID))
        or "''"
    )


_MEETING_PLACE = [
    "# The nodes meet on the first of them: by its name, or the address that Slurm finds it by.",
    'first=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)',
    'getent hosts "$first" > /dev/null ||',
    '  first=$(scontrol show node --oneliner "$first" | sed "s/.* NodeAddr=\\([^ ]*\\).*/\\1/")',
    f'export {RANK0_VARIABLE}="$first"',
    "# By the job's number, as jobs may share a node.",
    f"export {PORT_VARIABLE}=$(({_FIRST_PORT} + SLURM_JOB_ID % {_PORTS}))",
]
_TRAP = [
    "# The time limit is near: on SIGTERM training saves.",
    "warned=0",
    "trap 'warned=$((warned + 1)); scancel --signal=TERM \"$SLURM_JOB_ID\"' USR1",
]
_WAIT = [
    "step=$!",
    "# The trap ends a wait, and not the step.",
    "heeded=-1",
    'while [ "$heeded" -lt "$warned" ]; do',
    "  heeded=$warned",
    '  wait "$step"',
    "  code=$?",
    "done",
]
_REQUEUE = [
    'echo "job $SLURM_JOB_ID: exit code $code, time limit near: $warned,'
    ' requeued ${SLURM_RESTART_COUNT:-0} of $max_requeues times"',
    f'if [ "$code" -eq {USER_ERROR} ]; then',
    '  echo "job $SLURM_JOB_ID: not requeued, as the same mistake would end it again"',
    'elif [ "$code" -ne 0 ] && [ "${SLURM_RESTART_COUNT:-0}" -lt "$max_requeues" ]; then',
    '  scontrol requeue "$SLURM_JOB_ID"',
    "fi",
    'exit "$code"',
]

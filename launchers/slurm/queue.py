"""What Slurm's commands say of jobs; accounting is asked last, as not every cluster has it."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

TIMEOUT = 60  # seconds that a command of Slurm's may take
_ACCOUNTED = ("--allocations", "--duplicates", "--noheader", "--parsable2",
              "--format=State,ExitCode,NNodes")  # fmt: skip
_FIELD = re.compile(r"(?:^|\s)(\w[\w:/]*)=")


@dataclass(frozen=True)
class SlurmJob:
    """One job.

    Attributes:
        state: Slurm's name of it, such as RUNNING.
        reason: Why it waits or has ended, in Slurm's words; empty where there is none.
        nodes: Machines that it asks for or has.
        restarts: How often it was requeued; -1 where that is not known.
        output: Of its batch script; None where that is no longer known.
    """

    state: str
    reason: str
    nodes: int
    restarts: int
    output: Path | None


def ask_slurm(*command: str, text: str | None = None) -> str:
    """What a command of Slurm's prints.

    Args:
        command: the command's words.
        text: its standard input.

    Raises:
        ValueError: there is no such command here, it fails or does not answer; with its own line.
    """
    try:
        ended = subprocess.run(
            command, input=text, capture_output=True, text=True, timeout=TIMEOUT, check=False
        )
    except FileNotFoundError:
        raise ValueError(
            f"{command[0]} is not there: launch from a machine that has Slurm's commands"
        ) from None
    except subprocess.TimeoutExpired:
        raise ValueError(f"{command[0]} has not answered within {TIMEOUT} seconds") from None
    if ended.returncode:
        said = ended.stderr.strip().splitlines() or [f"exit code {ended.returncode}"]
        raise ValueError(f"{command[0]}: {said[-1].removeprefix(f'{command[0]}: ')}")
    return ended.stdout


def find_job(job_id: str) -> SlurmJob | None:
    """The job as the controller knows it, or the accounting; None where neither does."""
    try:
        return parse_job(ask_slurm("scontrol", "show", "job", "--oneliner", job_id))
    except ValueError as error:
        # The controller forgets a job minutes after its end.
        if "Invalid job id" not in str(error):
            raise
    try:
        listed = ask_slurm("sacct", *_ACCOUNTED, "-j", job_id).splitlines()
    except ValueError:  # no accounting
        return None
    return parse_accounted(listed)


def parse_job(line: str) -> SlurmJob:
    """Of ``scontrol show job --oneliner``."""
    fields = _fields(line)
    reason = fields.get("Reason", "None")
    output = fields.get("StdOut")
    return SlurmJob(
        state=fields["JobState"],
        reason="" if reason == "None" else reason,
        nodes=int(fields.get("NumNodes", "1").split("-")[0]),
        restarts=int(fields.get("Restarts", "-1")),
        output=Path(output) if output else None,
    )


def parse_accounted(lines: Sequence[str]) -> SlurmJob | None:
    """Of ``sacct``: one line for each time it was queued."""
    if not lines:
        return None
    state, code, nodes = lines[-1].split("|")[:3]
    words = state.split()  # such as CANCELLED by 1000
    return SlurmJob(words[0], f"exit code {code}", int(nodes), len(lines) - 1, None)


def _fields(line: str) -> dict[str, str]:
    """``KEY=VALUE KEY=VALUE``, where a value may hold spaces."""
    found = list(_FIELD.finditer(line))
    ends = [match.start() for match in found[1:]] + [len(line)]
    fields: dict[str, str] = {}
    for match, end in zip(found, ends, strict=True):
        fields.setdefault(match[1], line[match.end() : end].strip())
    return fields

"""What a user of the cluster does: Dropdrift's and Slurm's commands, and what they say."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Literal

SECONDS_OF_A_JOB = 300
DROPDRIFT = [sys.executable, "-m", "dropdrift"]
OF_TRAIN = (
    "--data.lanes", "2", "--data.batch-size", "64", "--loop.epochs", "50",
    "--loop.max-steps", "60", "--loop.log-every", "1",
)  # fmt: skip


class Client:
    """A folder to work in, and the commands."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.folder = folder
        self.environment = {**environment, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command,
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=SECONDS_OF_A_JOB,
            check=False,
        )

    def dropdrift(self, *arguments: str, code: int = 0) -> str:
        """What a command says, which must end with ``code``."""
        ended = self.run(*DROPDRIFT, *arguments)
        said = ended.stdout + ended.stderr
        assert ended.returncode == code, f"{arguments} ended with {ended.returncode}: {said}"
        return said

    def train(self, out: str, *options: str, data: str = "data", checkpoint_every: int = 5) -> str:
        """Ask for a training on two nodes; the job's handle."""
        job = ("-j", "2x1", "--scheduler", "slurm", "--scheduler-args", "time=20", *options)
        of_train = ("--data.path", data, "--loop.checkpoint-every", str(checkpoint_every))
        recipe = ("--recipe", "asymdiffrec-demo")
        train = ("launch", "train", *recipe, *job, "--", *OF_TRAIN, *of_train, "--out", out)
        said = self.dropdrift(*train)
        handle = said.splitlines()[0]
        assert re.fullmatch(r"slurm://dropdrift/\d+", handle), said
        return handle

    def status(self, handle: str) -> str:
        ended = self.run(*DROPDRIFT, "launch", "status", handle)
        assert ended.returncode in (0, 1), ended.stderr
        return ended.stdout.removeprefix(f"{handle}: ").strip()

    def await_status(self, handle: str, wanted: str) -> None:
        def there() -> bool:
            status = self.status(handle)
            assert wanted in status or not status.startswith("FAILED"), f"{handle}: {status}"
            return wanted in status

        await_true(
            f"{handle} to be {wanted}", there, lambda: f"{self.status(handle)}\n{self.logs(handle)}"
        )

    def start_again_now(self, handle: str) -> None:
        """Wait for a job to be requeued, and have it begin: Slurm lets it wait for two minutes."""
        self.await_status(handle, "BeginTime")
        # Nodes refuse a job that begins in the second in which it was ended, and are drained if
        # it begins while a part of it is still there.
        self.await_no_step(handle)
        time.sleep(2)
        self.run("scontrol", "update", f"JobId={number(handle)}", "StartTime=now")

    def state(self, node: str) -> str:
        """Slurm's word for it."""
        return self.run("sinfo", "--noheader", "--nodes", node, "--format=%T").stdout.strip()

    def logs(self, handle: str) -> str:
        return self.run(*DROPDRIFT, "launch", "log", handle).stdout

    def log_of_the_script(self, handle: str) -> str:
        """Of what ran the nodes' processes, and requeues them."""
        return (self.folder / "runs" / "slurm" / f"train-{number(handle)}.log").read_text()

    def losses(self, out: str) -> list[str]:
        """The log of a run, a line for each step and validation."""
        path = self.folder / out / "log.jsonl"
        return path.read_text().splitlines() if path.exists() else []

    def await_steps(self, out: str, steps: int) -> None:
        await_true(f"{steps} steps of {out}", lambda: len(self.losses(out)) >= steps)

    def steps_saved(self, out: str) -> list[int]:
        """Of a run's whole checkpoints."""
        committed = (self.folder / out / "checkpoints").glob("step-*/COMMITTED")
        return sorted(int(path.parent.name.removeprefix("step-")) for path in committed)

    def result(self, out: str, name: str) -> dict[str, object]:
        return dict(json.loads((self.folder / out / name).read_text()))

    def processes(self, out: str, kind: Literal["worker", "torchrun"]) -> list[int]:
        """Processes on this host of a job, by what their command lines hold."""
        return [
            process
            for process, words in command_lines().items()
            if out in words and ("--nnodes=2" in words) == (kind == "torchrun")
        ]

    def await_no_step(self, handle: str) -> None:
        """Wait until no node has any part of a job."""
        beginning = f"slurmstepd: [{number(handle)}."
        await_true(
            f"{handle} to leave its nodes",
            lambda: not any(words[0].startswith(beginning) for words in command_lines().values()),
        )


def command_lines() -> dict[int, list[str]]:
    """Of the processes on this host, by their numbers."""
    found = {}
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        # It may have ended.
        with suppress(OSError):
            found[int(entry.parent.name)] = entry.read_bytes().decode(errors="replace").split("\0")
    return found


def parent(process: int) -> int:
    """The process that has started another one, and lives."""
    return int(Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[1])


def number(handle: str) -> str:
    """Slurm's, of a job."""
    return handle.rsplit("/", 1)[1]


def await_true(
    what: str, there: Callable[[], bool], otherwise: Callable[[], str] = lambda: ""
) -> None:
    """Wait until ``there``; AssertionError with what ``otherwise`` says if it does not come."""
    end = time.monotonic() + SECONDS_OF_A_JOB
    while not there():
        assert time.monotonic() < end, f"waited for {what} in vain: {otherwise()}"
        time.sleep(0.5)

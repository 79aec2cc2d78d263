"""``make test-slurm``: jobs of ``dropdrift launch`` on a real Slurm of two nodes on this host.

As root on Debian: installs Slurm's packages where they are missing (cluster.py), starts its
daemons in a temporary folder, and ends them. Each check says what it has seen; the first that
fails ends the script with exit code 1, and its folder is kept.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from cluster import install, two_nodes

SECONDS_OF_A_JOB = 300
DROPDRIFT = [sys.executable, "-m", "dropdrift"]
OF_TRAIN = (
    "--data.path", "data", "--data.lanes", "2", "--data.batch-size", "64", "--loop.epochs", "50",
    "--loop.max-steps", "60", "--loop.log-every", "1", "--loop.checkpoint-every", "5",
)  # fmt: skip


class Site:
    """A folder to work in, and Slurm's commands."""

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

    def train(self, out: str, *options: str) -> str:
        """Ask for a training on two nodes; the job's handle."""
        job = ("-j", "2x1", "--scheduler", "slurm", "--scheduler-args", "time=20", *options)
        said = self.dropdrift(
            "launch", "train", "--recipe", "asymdiffrec-demo", *job, "--", *OF_TRAIN, "--out", out
        )
        handle = said.splitlines()[0]
        assert re.fullmatch(r"slurm://dropdrift/\d+", handle), said
        return handle

    def status(self, handle: str) -> str:
        ended = self.run(*DROPDRIFT, "launch", "status", handle)
        assert ended.returncode in (0, 1), ended.stderr
        return ended.stdout.removeprefix(f"{handle}: ").strip()

    def await_status(self, handle: str, wanted: str) -> None:
        await_true(
            f"{handle} to be {wanted}",
            lambda: self.status(handle).startswith(wanted),
            lambda: f"{self.status(handle)}\n{self.logs(handle)}",
        )

    def logs(self, handle: str) -> str:
        return self.run(*DROPDRIFT, "launch", "log", handle).stdout

    def losses(self, out: str) -> list[str]:
        """The log of a run, a line for each step and validation."""
        path = self.folder / out / "log.jsonl"
        return path.read_text().splitlines() if path.exists() else []

    def processes(self, out: str, program: str) -> list[int]:
        """Processes on this host of a job, by what their command lines hold."""
        found = []
        for entry in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                words = entry.read_bytes().decode(errors="replace").split("\0")
            except OSError:  # it has ended
                continue
            if words[1:4] == program.split() and out in words:
                found.append(int(entry.parent.name))
        return found


def await_true(
    what: str, there: Callable[[], bool], otherwise: Callable[[], str] = lambda: ""
) -> None:
    """Wait until ``there``; AssertionError with what ``otherwise`` says if it does not come."""
    end = time.monotonic() + SECONDS_OF_A_JOB
    while not there():
        assert time.monotonic() < end, f"waited for {what} in vain: {otherwise()}"
        time.sleep(0.5)


def check_undisturbed(site: Site) -> None:
    handle = site.train("whole")
    site.await_status(handle, "SUCCEEDED")
    result = json.loads((site.folder / "whole" / "result.json").read_text())
    assert result["steps"] == 60
    provenance = json.loads((site.folder / "whole" / "provenance.json").read_text())
    assert provenance["world_size"] == 2
    ends = [line for line in site.logs(handle).splitlines() if "validation AUC" in line]
    assert len(ends) == 1, ends
    say(f"{handle} {site.status(handle)}: {ends[0]}")


def check_killed_worker(site: Site) -> None:
    """torchrun starts the processes again within the job."""
    handle = site.train("worker", "--max-restarts", "2")
    kill_at_work(site, "worker", "-u -m dropdrift")
    site.await_status(handle, "SUCCEEDED")
    compare(site, "worker")
    say(f"{handle}: a worker was killed; the same losses as the undisturbed run")


def check_killed_node(site: Site) -> None:
    """The job fails, and goes back into the queue."""
    handle = site.train("node", "--max-requeues", "1")
    kill_at_work(site, "node", "-m torch.distributed.run --nnodes=2")
    job = handle.rsplit("/", 1)[1]
    await_true("the requeue", lambda: "requeued 1 times" in site.status(handle))
    # Slurm lets a requeued job wait for about two minutes.
    site.run("scontrol", "update", f"JobId={job}", "StartTime=now")
    site.await_status(handle, "SUCCEEDED")
    compare(site, "node")
    say(f"{handle}: a node's torchrun was killed; requeued, and the same losses")


def check_cancelled(site: Site) -> None:
    handle = site.train("cancelled")
    site.await_status(handle, "RUNNING")
    assert "asked to end" in site.dropdrift("launch", "cancel", handle)
    site.await_status(handle, "CANCELLED")
    assert site.run(*DROPDRIFT, "launch", "status", handle).returncode == 1
    assert "has ended: CANCELLED" in site.dropdrift("launch", "cancel", handle)
    await_true("its processes to end", lambda: not site.processes("cancelled", "-u -m dropdrift"))
    say(f"{handle}: cancelled, and no process is left")


def check_refused(site: Site) -> None:
    job = ("--scheduler", "slurm", "--recipe", "dcnv2-demo")
    absent = ("-j", "2x1", "--scheduler-args", "partition=absent")
    said = site.dropdrift("launch", "train", *job, *absent, code=2)
    assert re.fullmatch(r"dropdrift: sbatch: error: .*\n", said), said
    site.dropdrift("launch", "train", *job, "--", "--loop.epoch", "3", code=2)
    unknown = site.dropdrift("launch", "status", "slurm://dropdrift/999999", code=2)
    assert "is not known any more" in unknown
    assert "not known any more" in site.dropdrift("launch", "log", "slurm://dropdrift/99", code=2)
    say(f"refused in one line: {said.strip()}")


def kill_at_work(site: Site, out: str, program: str) -> None:
    """SIGKILL for one process of a job that has trained for more than ten steps."""
    await_true(f"ten steps of {out}", lambda: len(site.losses(out)) > 10)
    os.kill(site.processes(out, program)[0], signal.SIGKILL)


def compare(site: Site, out: str) -> None:
    """The same log, whatever happened on the way."""
    assert site.losses(out) == site.losses("whole"), f"{site.folder / out} is not as whole"


def say(what: str) -> None:
    print(what, flush=True)


def main() -> None:
    """Run all checks."""
    install()
    folder = Path(tempfile.mkdtemp(prefix="dropdrift-slurm-"))
    say(f"Slurm's daemons and the jobs are in {folder}")
    with two_nodes(folder / "slurm") as environment:
        site = Site(folder, environment)
        say(site.run("sinfo", "--version").stdout.strip())
        site.dropdrift("prepare", "synthetic", "--out", "data", "--rows", "4000")
        for check in (
            check_refused,
            check_undisturbed,
            check_killed_worker,
            check_killed_node,
            check_cancelled,
        ):
            check(site)
    shutil.rmtree(folder)
    say("all is well, and Slurm's daemons have ended")


if __name__ == "__main__":
    main()

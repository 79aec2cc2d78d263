"""Trainings on two ranks in processes of their own, that tests kill, stop and start again."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import dropdrift
from dropdrift.training.checkpoint import checkpoint_path, committed_steps, verify_checkpoint

RANKS = 2
STEPS_PER_EPOCH = 66  # of 4000 rows
LAST_STEP = 3 * STEPS_PER_EPOCH
LOG_EVERY, CHECKPOINT_EVERY = 6, 7
# In the second epoch; some steps before the next checkpoint.
MID_EPOCH = STEPS_PER_EPOCH + LOG_EVERY
OPTIONS = (
    # Row groups are read one after the other, and not all before the first step.
    "--data.batch-size", "60", "--data.shuffle-rows", "300",
    "--model.dcnv2.deep-widths", "8", "--model.dcnv2.z-width", "4",
    "--loop.epochs", "3", "--loop.log-every", str(LOG_EVERY),
    "--loop.checkpoint-every", str(CHECKPOINT_EVERY), "--loop.keep-checkpoints", "3",
)  # fmt: skip

# For a machine that has other things to do; a quiet one needs a tenth.
SECONDS = 120.0
# By this variable, which they inherit, the processes of a job are told from all others.
MARK = "DROPDRIFT_TEST_JOB"


def train_command(data: Path, out: Path, *options: object) -> list[str]:
    """``dropdrift``'s arguments for the training that all tests disturb."""
    return list(map(str, ["train", "--data.path", data, "--out", out, *OPTIONS, *options]))


def torchrun(*command: str, name: str = "job", max_restarts: int = 0) -> list[str]:
    """``dropdrift COMMAND`` on two ranks, as ``dropdrift launch`` asks torchrun for it."""
    return [
        sys.executable, "-m", "torch.distributed.run", "--nnodes=1", f"--nproc-per-node={RANKS}",
        "--rdzv-backend=c10d", "--rdzv-endpoint=localhost:0", f"--rdzv-id={name}",
        f"--max-restarts={max_restarts}", "-m", "--", "dropdrift", *command,
    ]  # fmt: skip


class Job:
    """A command that runs, and all processes that it has started.

    Args:
        command: what to run.
        run: the folder of the run that it trains.
        output: file for what it says; it is appended to.
    """

    def __init__(self, command: Sequence[str], run: Path, output: Path) -> None:
        self.run, self.output = run, output
        self._mark = f"{MARK}={uuid.uuid4()}"
        self._begins = output.stat().st_size if output.exists() else 0
        environment = {
            **os.environ,
            MARK: self._mark.removeprefix(f"{MARK}="),
            "PYTHONPATH": str(Path(dropdrift.__file__).parents[1]),
            "OMP_NUM_THREADS": "1",
            "CUDA_VISIBLE_DEVICES": "",
            "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1",
        }
        with output.open("ab") as stream:
            self.process = subprocess.Popen(
                command, env=environment, stdout=stream, stderr=subprocess.STDOUT
            )

    @property
    def said(self) -> str:
        """What it has said."""
        return self.output.read_bytes()[self._begins :].decode(errors="replace")

    def messages(self) -> list[str]:
        """What Dropdrift itself has said: its lines, without torchrun's."""
        return [line for line in self.said.splitlines() if line.startswith("dropdrift")]

    def processes(self) -> dict[int, dict[str, str]]:
        """The processes that have not ended, with their environments."""
        environments = {}
        for path in Path("/proc").glob("[0-9]*/environ"):
            with contextlib.suppress(OSError):  # it has ended, or is another user's
                entries = path.read_bytes().decode(errors="replace").split("\0")
                if self._mark in entries:
                    pairs = (entry.partition("=") for entry in entries)
                    environments[int(path.parent.name)] = {name: value for name, _, value in pairs}
        return environments

    def workers(self) -> dict[int, int]:
        """The process of each rank."""
        environments = self.processes()
        ranked = {pid: e["RANK"] for pid, e in environments.items() if "RANK" in e}
        # What a worker has started is none, although it inherits the rank.
        return {int(rank): pid for pid, rank in ranked.items() if _parent(pid) not in ranked}

    def await_step(self, step: int) -> int:
        """Wait until it trains, and the log has an entry of ``step`` or a later one; of which."""
        self.await_true(f"step {step}", self._is_training)
        self.await_true(f"step {step}", lambda: last_step(self.run) >= step)
        return last_step(self.run)

    def await_message(self, text: str) -> None:
        """Wait until it says ``text``."""
        self.await_true(repr(text), lambda: text in self.said)

    def await_ends(self, pids: Iterable[int]) -> None:
        """Wait until these processes of it have ended, while it goes on."""
        old = set(pids)
        self.await_true(f"the end of {old}", lambda: old.isdisjoint(self.processes()))

    def await_true(self, what: str, there: Callable[[], bool]) -> None:
        """Wait until ``there``; AssertionError where the job ends before, or it does not come."""
        end = time.monotonic() + SECONDS
        while not there():
            ended = self.process.poll() is not None
            assert not ended or there(), f"ended before {what}: {self.said[-5000:]}"
            assert time.monotonic() < end, f"waited for {what} in vain: {self.said[-5000:]}"
            time.sleep(0.005)

    def end(self, seconds: float = SECONDS) -> int:
        """The exit code of the command, waited for; then no process of it is left."""
        try:
            code = self.process.wait(seconds)
        except subprocess.TimeoutExpired as error:
            raise AssertionError(f"it does not end: {self.said[-5000:]}") from error
        left = time.monotonic() + 5  # torchrun's workers, where it was killed, see it by themselves
        while (alive := self.processes()) and time.monotonic() < left:
            time.sleep(0.05)
        assert not alive, f"processes are left: {list(alive)}"
        return code

    def kill(self) -> None:
        """SIGKILL for all of its processes."""
        while processes := self.processes():
            for pid in processes:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self.process.poll()  # takes note of the first one's end
            time.sleep(0.01)
        self.process.wait()

    def _is_training(self) -> bool:
        """Whether the first rank writes the log, which it does from its first step on."""
        first = self.workers().get(0)
        with contextlib.suppress(OSError):
            for file in Path(f"/proc/{first}/fd").iterdir():
                if file.readlink() == (self.run / "log.jsonl").resolve():
                    return True
        return False


def _parent(pid: int) -> int:
    """The parent of a process, 0 where it has ended."""
    with contextlib.suppress(OSError):
        # The name of the program, in brackets, may hold anything.
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return 0


def stopped_copy(undisturbed: Path, run: Path) -> Path:
    """The undisturbed run as if it had been stopped before it wrote its result."""
    shutil.copytree(undisturbed, run)
    (run / "result.json").unlink()
    return run


def entries(run: Path) -> Iterator[dict[str, Any]]:
    """The log's entries that are whole."""
    with contextlib.suppress(FileNotFoundError):
        for line in (run / "log.jsonl").read_text().splitlines(keepends=True):
            if line.endswith("\n"):
                yield json.loads(line)


def last_step(run: Path) -> int:
    """The last step in the log, 0 where there is none."""
    return max((entry["step"] for entry in entries(run)), default=0)


def checkpoints(run: Path) -> list[int]:
    """Steps of its checkpoints, each of which is verified."""
    steps = committed_steps(run / "checkpoints")
    for step in steps:
        verify_checkpoint(run / "checkpoints", step)
    return steps


def check_same(run: Path, undisturbed: Path) -> None:
    """The log, the weights, the optimizer's state, the state and the outcome, bit by bit."""
    assert (run / "log.jsonl").read_text() == (undisturbed / "log.jsonl").read_text()
    assert checkpoints(run) == checkpoints(undisturbed)
    ours, theirs = (
        checkpoint_path(folder / "checkpoints", LAST_STEP) for folder in (run, undisturbed)
    )
    files = sorted(path.name for path in theirs.iterdir() if path.name[0] != ".")
    assert [name for name in files if name.endswith(".distcp")] == ["__0_0.distcp", "__1_0.distcp"]
    for name in files:
        # The plan says when it was made; the digests are of it and of .metadata too.
        if name not in ("plan.json", "COMMITTED"):
            assert (ours / name).read_bytes() == (theirs / name).read_bytes(), name
    assert _outcome(run) == _outcome(undisturbed)


def _outcome(run: Path) -> dict[str, Any]:
    """``result.json`` without what a clock has told."""
    outcome: dict[str, Any] = json.loads((run / "result.json").read_text())
    return {key: outcome[key] for key in ("steps", "best_step", "validation")}

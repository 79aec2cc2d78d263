"""SIGTERM, from whoever and to whomever of a job: it saves where it stands, and goes on there."""

from __future__ import annotations

import os
import re
import signal
import sys

import pytest
from tests.faults.jobs import (
    LAST_STEP,
    MID_EPOCH,
    Job,
    check_same,
    checkpoints,
    torchrun,
    train_command,
)

pytestmark = [pytest.mark.faults, pytest.mark.timeout(400)]


def launched(*command: str) -> list[str]:
    """``dropdrift launch`` on one node of two ranks."""
    name, *options = command
    return [sys.executable, "-m", "dropdrift", "launch", name, "-j", "1x2", "--", *options]


def check_saved(job: Job) -> None:
    """All has ended within seconds, with a checkpoint of the step that it tells of."""
    code = job.end(seconds=60)
    told = re.findall(r"ended by SIGTERM: saved step (\d+); go on with --resume", job.said)
    (step,) = {int(number) for number in told}  # torchrun repeats it
    assert checkpoints(job.run)[-1] == step
    assert MID_EPOCH <= step < LAST_STEP
    assert "Traceback" not in "".join(job.messages())
    assert code == (143 if "launch" in job.process.args else 1)  # torchrun has its own


@pytest.mark.parametrize("to", ["one worker", "torchrun", "dropdrift launch"])
def test_sigterm_saves_and_the_run_goes_on(undisturbed, prepared_folder, tmp_path, start, to):
    """Between two checkpoints and two entries of the log, in the midst of an epoch."""
    run = tmp_path / "run"
    command = train_command(prepared_folder, run)
    job = start((launched if to == "dropdrift launch" else torchrun)(*command), run)
    job.await_step(MID_EPOCH)
    os.kill(job.workers()[1] if to == "one worker" else job.process.pid, signal.SIGTERM)
    check_saved(job)
    again = start(torchrun(*command, "--resume", name="another"), run)
    assert again.end() == 0, again.said
    check_same(run, undisturbed)
